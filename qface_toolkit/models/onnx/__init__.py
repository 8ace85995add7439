"""Float face ONNX files, read into networks: no runtime is asked, and no architecture needs to be known."""

from qface_toolkit.models.onnx.ends import GIVEN_TO_THE_READER, Image, is_channels_last, output_names, read_image
from qface_toolkit.models.onnx.load import load_onnx

__all__ = ["GIVEN_TO_THE_READER", "Image", "is_channels_last", "load_onnx", "output_names", "read_image"]
