"""Whether a file is damaged: less close to the float model, on average, than a recipe's budget.floor_cosine allows."""

from collections.abc import Sequence

from qface_toolkit.report.artifacts import main_artifact
from qface_toolkit.report.figures import clean, cosine
from qface_toolkit.report.page import Said
from qface_toolkit.report.schema import ArtifactFigures, Report
from qface_toolkit.runtimes import ONNX_RUNTIME

HIGHER = 0.99
"""A mean cosine to keep layers in float for, where none was asked for."""


def floor_of(report: Report) -> float | None:
    """Return the mean cosine below which the recipe takes a file for damaged; None if it does not ask."""
    return _wanted(report, "floor_cosine")


def damaged(report: Report) -> tuple[ArtifactFigures, ...]:
    """Return the files below the floor, worst first."""
    floor = floor_of(report)
    if floor is None:
        return ()
    below = [one for one in report.artifacts if one.quantized and one.agreement and one.agreement.cosine_mean < floor]
    return tuple(sorted(below, key=lambda one: one.agreement.cosine_mean if one.agreement else 0.0))


def misses_floor(report: Report) -> bool:
    """Tell whether any file is damaged."""
    return bool(damaged(report))


def floor_alarm(report: Report) -> Said | None:
    """Return which files must not be shipped, and what to do next; None if all are fine."""
    files = damaged(report)
    if not files:
        return None
    names = ", ".join(clean(one.name) for one in files)
    means = ", ".join(cosine(one.agreement.cosine_mean) for one in files if one.agreement)
    kept = sum(one.kept_convolutions for one in files)
    tried = " Keeping layers in float did not mend it." if kept else ""
    what = f"Damaged, do not ship: {names}. A mean cosine of {means} to the float model on drawings"
    fix = f"Try {_remedies(report, files)}; --set budget.floor_cosine=null takes it as it is"
    return Said(f"{what} is below budget.floor_cosine, {floor_of(report):g}.{tried} {fix}.", alarm=True)


def _remedies(report: Report, files: Sequence[ArtifactFigures]) -> str:
    """Return what else can be tried: only the first file can keep layers in float, if it is an ONNX file."""
    first, remedies = main_artifact(report), []
    if report.recipe.name != "int8-best":
        remedies.append("--recipe int8-best")
    mixes = first is not None and first in files and first.runtime == ONNX_RUNTIME.name
    if mixes and _wanted(report, "bytes") is None:
        asked = _wanted(report, "cosine_mean") or 0.0
        higher = HIGHER if asked < HIGHER else (1 + asked) / 2
        remedies.append(f"more layers in float, --set budget.cosine_mean={higher:g}")
    if any(one.quantized and one not in files for one in report.artifacts):
        remedies.append("another of the files, which are not damaged")
    return ", or ".join(remedies) or "--set calibration.count=1024"


def _wanted(report: Report, what: str) -> float | None:
    budget = report.recipe.values.get("budget")
    value = budget.get(what) if isinstance(budget, dict) else None
    return float(value) if isinstance(value, int | float) else None
