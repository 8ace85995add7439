"""Measure closely where the loss of a finished result is."""

import os
from collections.abc import Callable
from pathlib import Path

from qface_toolkit.analysis.sensitivity import affordable_images, measure_sensitivity
from qface_toolkit.errors import ArtifactError
from qface_toolkit.evidence.sensitivity import FEWEST_IMAGES
from qface_toolkit.methods import Progress
from qface_toolkit.report.schema import SensitivityBlock
from qface_toolkit.report.sensitivity import sensitivity_figures
from qface_toolkit.result.finished import open_result
from qface_toolkit.result.golden import held_out
from qface_toolkit.result.names import WEIGHTS

IMAGES, BUDGET = 32, 4e12


def sensitivity(
    folder: str | os.PathLike[str], tell: Callable[[str], Progress] = lambda step: lambda done, total: None
) -> SensitivityBlock:
    """Return what each quantizer of a finished result costs, alone and left out, on drawings nothing was made with.

    The simulation is that of the backend it was trained for. A large network gets fewer images.

    Raises:
        ArtifactError: if the folder is no finished result, or its model is damaged.
        MeasurementError: if the model's embeddings are not finite.
    """
    if Path(folder).is_file():
        what, fix = "an artifact alone does not hold its float weights", f"give the folder with {WEIGHTS} in it"
        raise ArtifactError(f"{what}, so there is nothing to compare with", where=str(folder), fix=fix)
    result = open_result(folder)
    model, target = result.model(), result.target()
    count = max(affordable_images(model, target, IMAGES, BUDGET), FEWEST_IMAGES)
    progress = tell(f"switch each quantizer on {count} images")
    inputs = model.spec.preprocess(held_out(count, model.spec.frame))
    return sensitivity_figures(measure_sensitivity(model, target, inputs, progress))
