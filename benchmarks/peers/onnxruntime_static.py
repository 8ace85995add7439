"""ONNX Runtime's own static quantizer, as its documents advise for x86: QDQ, U8S8, per channel, after preprocessing."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from runtimes import ONNXRUNTIME

from peers._base import Made, Materials, Peer

METHODS = {
    "MinMax": CalibrationMethod.MinMax,
    "Entropy": CalibrationMethod.Entropy,
    "Percentile": CalibrationMethod.Percentile,
}


class Feeds(CalibrationDataReader):
    """Inputs, one at a time, as quantize_static wants them."""

    def __init__(self, inputs: np.ndarray) -> None:
        self.feeds: Iterator[dict[str, np.ndarray]] = ({"input": image[None]} for image in inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next image."""
        return next(self.feeds, None)


def quantize(materials: Materials, folder: Path, method: str) -> Made:
    """Quantize the float file with one of the three ways to choose ranges."""
    prepared, written = folder / "prepared.onnx", folder / "quantize_static.onnx"
    quant_pre_process(str(materials.float_file), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(written),
        Feeds(materials.model.spec.preprocess(materials.crops)),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=METHODS[method],
    )
    return Made((written,), ONNXRUNTIME)


PEERS = tuple(
    Peer(f"quantize_static {method}", "ONNX Runtime", images, partial(quantize, method=method))
    for method in METHODS
    for images in ("drawings", "faces")
)
