"""What a wanted cosine cost, in words and in a table: for the terminal and for report.md."""

from qface_toolkit.report._budget import BudgetBlock, ParetoPoint
from qface_toolkit.report.figures import NOTHING, clean, megabytes, milliseconds, times

HEADINGS = ("layers in float", "MB", "median ms", "than int8", "cosine mean", "lowest")
NAMES_SHOWN = 12


def budget_said(block: BudgetBlock) -> tuple[bool, str]:
    """Return whether the budget was met, and in two sentences what it cost."""
    first, last, wanted = block.points[0], block.points[-1], f"{block.cosine_mean_wanted:g}"
    if not block.kept and block.reached:
        said = f"int8 alone reaches the wanted mean cosine of {wanted} ({_cosine(last)}): no layer is kept in float."
        return True, f"{clean(block.artifact)}: {said}"
    what = f"keeps {len(block.kept)} of {block.layers} layers in float for a mean cosine of {_cosine(last)}"
    size = f"{megabytes(last.size_bytes)} MB instead of {megabytes(first.size_bytes)} MB"
    told = f"{clean(block.artifact)} {what} instead of {_cosine(first)}, at {size}{_slower(first, last)}."
    if block.reached:
        return True, f"{told} Wanted was {wanted}. Only ONNX files keep layers in float."
    return False, f"The budget was missed: wanted was a mean cosine of {wanted}. {told}"


def _slower(first: ParetoPoint, last: ParetoPoint) -> str:
    if first.p50_ms is None or last.times_faster is None:
        return ", not timed"
    longer = 1 / last.times_faster
    told = f"{longer:.2f} times the {milliseconds(first.p50_ms)} ms"
    return f" and {told} ({first.p50_ms * (longer - 1):+.2f} ms)"


def pareto_rows(block: BudgetBlock) -> list[list[str]]:
    """Return the rows of a table (see HEADINGS), one for each point."""
    return [
        [
            str(point.layers),
            megabytes(point.size_bytes),
            NOTHING if point.p50_ms is None else milliseconds(point.p50_ms),
            times(point.times_faster),
            _cosine(point),
            f"{point.cosine_min:.5f}",
        ]
        for point in block.points
    ]


def kept_said(block: BudgetBlock) -> str:
    """Return the names of the kept layers, the first few of them."""
    names = [clean(name, 40) for name in block.kept[:NAMES_SHOWN]]
    more = f" and {len(block.kept) - NAMES_SHOWN} more" if len(block.kept) > NAMES_SHOWN else ""
    return f"Kept in float, chosen first to last: {', '.join(names)}{more}."


def _cosine(point: ParetoPoint) -> str:
    return f"{point.cosine_mean:.5f}"
