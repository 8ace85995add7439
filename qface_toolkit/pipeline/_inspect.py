"""Look at what a runtime really runs, and say which file is being looked at meanwhile."""

from collections.abc import Mapping
from pathlib import Path

from qface_toolkit.backends import BACKENDS, float_files, foreign
from qface_toolkit.evidence.layers import cost_of
from qface_toolkit.quantize.model import load_quantized
from qface_toolkit.report.cost import Beside
from qface_toolkit.report.schema import CostFigures
from qface_toolkit.result.inspecting import inspect_files
from qface_toolkit.result.job import Tell, silent
from qface_toolkit.result.names import DESCRIPTION, WEIGHTS
from qface_toolkit.runtimes import FAST_ARTIFACT
from qface_toolkit.runtimes.fusion import Fusion


def inspect(model: str | Path, *, tell: Tell = silent) -> dict[str, Fusion]:
    """Return what the runtime really runs for an .onnx file, a .ts archive or every artifact of a result, by name.

    A Fusion holds the operators after the runtime's own optimization with their shares of the time, 0..1, and every
    part that is left in float with the reason.

    Raises:
        QFaceError: if there is nothing to inspect, or a file is damaged, refused or not to be trusted.
    """
    return inspect_files(model, lambda name: tell(f"look at {name}"))


def layers_beside_float(model: str | Path, found: Mapping[str, Fusion]) -> dict[str, CostFigures]:
    """Return what each layer of a result's ONNX files for this machine costs beside float.fast.onnx, by file.

    `found` is what `inspect` gave. Empty for what is no result, or holds no float.fast.onnx.

    Raises:
        QFaceError: if the saved model of the result is damaged.
    """
    folder = Path(model)
    if not (folder / DESCRIPTION).is_file() or FAST_ARTIFACT not in found:
        return {}
    saved = load_quantized(folder / DESCRIPTION, folder / WEIGHTS)
    names = next(one.layer_names(saved.network) for one in float_files() if one.artifact == FAST_ARTIFACT)
    floats = cost_of(folder / FAST_ARTIFACT, found[FAST_ARTIFACT], names)
    beside = Beside(float_us={layer.name: 1000 * (layer.time_ms or 0.0) for layer in floats.layers})
    costs: dict[str, CostFigures] = {}
    for backend in map(BACKENDS.get, BACKENDS.names()):
        name = backend.artifact
        if name in found and backend.runtime.fast_name == FAST_ARTIFACT and foreign(backend) is None:
            layers = backend.layer_names(saved)
            if layers is not None:
                costs[name] = cost_of(folder / name, found[name], layers, beside=beside)
    return costs
