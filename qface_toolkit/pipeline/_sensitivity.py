"""Measure where the loss is: quickly at the end of a job, and more closely when somebody asks of a finished result."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qface_toolkit.analysis.sensitivity import affordable_images, measure_sensitivity
from qface_toolkit.backends import BACKENDS
from qface_toolkit.errors import ArtifactError
from qface_toolkit.evidence.sensitivity import FEWEST_IMAGES
from qface_toolkit.methods import Progress
from qface_toolkit.quantize.model import QuantizedModel, load_quantized
from qface_toolkit.quantize.plan import ONNX, Target
from qface_toolkit.report.schema import SensitivityBlock
from qface_toolkit.report.sensitivity import sensitivity_figures
from qface_toolkit.result.golden import held_out
from qface_toolkit.result.manifest import Manifest, is_intact, read_manifest
from qface_toolkit.result.names import DESCRIPTION, WEIGHTS
from qface_toolkit.result.saved import refuse_simulated
from qface_toolkit.untrusted.writing import disk_errors

IMAGES, BUDGET = 32, 4e12


def sensitivity(
    folder: str | Path, tell: Callable[[str], Progress] = lambda step: lambda done, total: None
) -> SensitivityBlock:
    """Return what each quantizer of a finished result costs, alone and left out, on drawings nothing was made with.

    The simulation is that of the backend it was trained for. A large network gets fewer images.

    Raises:
        ArtifactError: if the folder is no finished result, or its model is damaged.
        MeasurementError: if the model's embeddings are not finite.
    """
    root = Path(folder)
    if root.is_file():
        what, fix = "an artifact alone does not hold its float weights", f"give the folder with {WEIGHTS} in it"
        raise ArtifactError(f"{what}, so there is nothing to compare with", where=str(root), fix=fix)
    refuse_simulated(root)
    target, model = _target(manifest := read_manifest(root)), _model(root, manifest)
    count = max(affordable_images(model, target, IMAGES, BUDGET), FEWEST_IMAGES)
    progress = tell(f"switch each quantizer on {count} images")
    return sensitivity_figures(measure_sensitivity(model, target, model.spec.preprocess(held_out(count)), progress))


def _model(root: Path, manifest: Manifest) -> QuantizedModel:
    for name in (DESCRIPTION, WEIGHTS):
        with disk_errors(root):
            if name not in manifest.files or not is_intact(root / name, manifest.files[name]):
                what = "the file is missing or not what the manifest says"
                raise ArtifactError(what, where=str(root / name), fix="copy the folder again, or compress again")
    return load_quantized(root / DESCRIPTION, root / WEIGHTS)


def _target(manifest: Manifest) -> Target:
    """Return what the first backend of a recipe runs, as far as the manifest names one that is known."""
    told: Any = (manifest.model_extra or {}).get("recipe")
    names = told.get("backends") if isinstance(told, dict) else None
    known = [name for name in names if name in BACKENDS.names()] if isinstance(names, list) else []
    return BACKENDS.get(known[0]).target if known else ONNX
