"""The two float files of a result: what they are called, what writes them, and that ONNX Runtime runs them."""

from torch import fx

from qface_toolkit.backends._base import Facts, FloatFile
from qface_toolkit.backends._float_fast import export_float_fast
from qface_toolkit.backends._float_onnx import export_float
from qface_toolkit.backends._onnx_files import OnnxRuntimeFiles
from qface_toolkit.models import FloatModel
from qface_toolkit.runtimes import FAST_ARTIFACT, FLOAT_ARTIFACT


class _Exported(OnnxRuntimeFiles, FloatFile):
    """The network as torch.onnx exports it."""

    artifact = FLOAT_ARTIFACT

    def write(self, model: FloatModel, canonical: fx.GraphModule, facts: Facts) -> bytes:
        """Return the export of the network itself."""
        return export_float(model.network, model.spec, facts)


class _Fast(OnnxRuntimeFiles, FloatFile):
    """The canonical network, written for speed."""

    artifact = FAST_ARTIFACT

    def write(self, model: FloatModel, canonical: fx.GraphModule, facts: Facts) -> bytes:
        """Return our own form of the canonical network."""
        return export_float_fast(canonical, model.spec, facts)


FLOAT_FILES: tuple[FloatFile, ...] = (_Exported(), _Fast())
