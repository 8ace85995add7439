"""Float face ONNX files, read into networks: no runtime is asked, and no architecture needs to be known."""

from qface_toolkit.models.onnx.load import load_onnx

__all__ = ["load_onnx"]
