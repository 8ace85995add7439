"""Where calibration images come from: one file a kind. Nothing in this folder imports torch."""

from qface_toolkit.registry import Registry
from qface_toolkit.sources._base import Crop, ImageSet, Manifest, Source, describe, load_crops, pixel_sha256

SOURCES: Registry[Source] = Registry("calibration source", __name__)

__all__ = ["SOURCES", "Crop", "ImageSet", "Manifest", "Source", "describe", "load_crops", "pixel_sha256"]
