"""The QDQ file with its constants at their true width: several times smaller, and the same once it is loaded."""

from dataclasses import dataclass

import onnx

from qface_toolkit.backends.onnx_packed.pack import pack
from qface_toolkit.backends.onnx_qdq import OnnxQdq
from qface_toolkit.backends.onnx_qdq._builder import SIGNED, UNSIGNED
from qface_toolkit.quantize.target import ONNX, ONNX_SIGNED

NEEDS_KEY = "qface.needs"
NEEDS = "graph optimizations on (the default); without them it gives the same, slowly"


@dataclass(frozen=True)
class OnnxPacked(OnnxQdq):
    """A packed QDQ file for one kind of processor."""

    packs = True

    def form(self, written: onnx.ModelProto) -> onnx.ModelProto:
        """Pack the file, and have it say what it needs."""
        packed = pack(written)
        packed.metadata_props.add(key=NEEDS_KEY, value=NEEDS)
        return packed


ENTRIES = {
    "onnx-packed-x86": OnnxPacked("packed.x86.onnx", "x86", ONNX, UNSIGNED),
    "onnx-packed-arm": OnnxPacked("packed.arm.onnx", "arm", ONNX_SIGNED, SIGNED),
}
