"""Compress a pretrained face-recognition model to a true int8 model, without one real face."""

__version__ = "0.1.0"
