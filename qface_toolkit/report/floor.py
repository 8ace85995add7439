"""Whether a file is damaged: less close to the float model, on average, than a recipe's budget.floor_cosine allows."""

from qface_toolkit.report.figures import clean, cosine
from qface_toolkit.report.page import Said
from qface_toolkit.report.schema import ArtifactFigures, Report


def floor_of(report: Report) -> float | None:
    """Return the mean cosine below which the recipe takes a file for damaged; None if it does not ask."""
    budget = report.recipe.values.get("budget")
    floor = budget.get("floor_cosine") if isinstance(budget, dict) else None
    return float(floor) if isinstance(floor, int | float) else None


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
    kept = len(report.budget.kept) if report.budget else 0
    tried = f" Keeping {kept} layers in float did not mend it." if kept else ""
    what = f"Damaged, do not ship: {names}. A mean cosine of {means} to the float model on drawings"
    fix = (
        "Try --recipe int8-best, or keep more layers in float: --set budget.cosine_mean=0.99; --set "
        "budget.floor_cosine=null takes it as it is"
    )
    return Said(f"{what} is below budget.floor_cosine, {floor_of(report):g}.{tried} {fix}.", alarm=True)
