"""The figures of one artifact against the same file's in the baseline: bytes, counts and agreement, each in words."""

from collections import Counter
from collections.abc import Iterator, Mapping

from qface_toolkit.gate.budgets import Budgets
from qface_toolkit.gate.verdict import Finding, Outcome
from qface_toolkit.report._figures import clean
from qface_toolkit.report.schema import ArtifactFigures

LEAST = 1e-9
"""What float arithmetic may add to a difference that is just within its budget."""
KINDS_NAMED = 4
LONGEST_KIND = 40


def size(now: ArtifactFigures, before: ArtifactFigures, budget: float | None) -> Iterator[Finding]:
    if budget is None:
        return
    allowed = before.size_bytes * (1 + budget)
    grown = now.size_bytes / before.size_bytes - 1
    figures = f"{now.size_bytes:,} bytes, {_change(grown)} the baseline's {before.size_bytes:,}"
    fine = now.size_bytes <= allowed + LEAST
    said = f"{figures}; {_percent(budget)} more are allowed" if grown > 0 else figures
    yield Finding(
        now.name,
        "size_bytes",
        "passed" if fine else "failed",
        said,
        now.size_bytes,
        before.size_bytes,
        allowed,
        improved=grown < 0,
    )


def layers(now: ArtifactFigures, before: ArtifactFigures, budgets: Budgets) -> Iterator[Finding]:
    rows = (
        (
            "integer_convolutions",
            now.integer_convolutions,
            before.integer_convolutions,
            budgets.integer_convolutions_fewer,
        ),
        (
            "integer_linear_layers",
            now.integer_linear_layers,
            before.integer_linear_layers,
            budgets.integer_linear_layers_fewer,
        ),
    )
    for figure, here, there, budget in rows:
        if budget is not None and (here is not None or there is not None):
            yield _counted(now.name, figure, here, there, budget, more_is_better=True)


def operators(now: ArtifactFigures, before: ArtifactFigures, budgets: Budgets) -> Iterator[Finding]:
    if not before.operators or not now.operators:
        if before.operators or now.operators:
            yield Finding(now.name, "operators", "not comparable", "they were counted in only one of the reports")
        return
    kinds = _changed_kinds(now.operators, before.operators)
    if budgets.float_operators_more is not None:
        here, there = _float_operators(now), _float_operators(before)
        named = _changed_kinds(_island_kinds(now), _island_kinds(before))
        yield _counted(now.name, "float_operators", here, there, budgets.float_operators_more, named)
    if budgets.operators_more is not None:
        here, there = sum(now.operators.values()), sum(before.operators.values())
        yield _counted(now.name, "operators", here, there, budgets.operators_more, kinds)


def _counted(
    name: str,
    figure: str,
    now: int | None,
    before: int | None,
    budget: int,
    named: str = "",
    *,
    more_is_better: bool = False,
) -> Finding:
    """Return the finding on a count; `named` tells which kinds changed."""
    what = figure.replace("_", " ")
    if now is None or before is None:
        return Finding(name, figure, "not comparable", f"{what}: counted in only one of the reports", now, before)
    worse = before - now if more_is_better else now - before
    word = "fewer" if (now < before) else "more"
    told = (
        f"{now} {what}, as many as in the baseline"
        if now == before
        else (f"{now} {what}, {abs(worse)} {word} than in the baseline ({before})")
    )
    allowed = before - budget if more_is_better else before + budget
    outcome: Outcome = "passed" if worse <= budget else "failed"
    told += f": {named}" if named else ""
    return Finding(name, figure, outcome, told, now, before, allowed, improved=worse < 0)


def _float_operators(artifact: ArtifactFigures) -> int | None:
    """Return how many operators compute on float, by their share or, without one, by the islands that were named."""
    if artifact.integer_share is not None:
        return round((1 - artifact.integer_share) * sum(artifact.operators.values()))
    return sum(_island_kinds(artifact).values()) if artifact.islands else None


def _island_kinds(artifact: ArtifactFigures) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for island in artifact.islands:
        kinds.update({kind: count * island.count for kind, count in island.operators.items()})
    return kinds


def _changed_kinds(now: Mapping[str, int], before: Mapping[str, int]) -> str:
    pairs = [(kind, before.get(kind, 0), now.get(kind, 0)) for kind in sorted({*now, *before})]
    changed = [f"{clean(kind, LONGEST_KIND)} {there} -> {here}" for kind, there, here in pairs if there != here]
    return ", ".join(changed[:KINDS_NAMED]) + (", …" if len(changed) > KINDS_NAMED else "")


def agreement(now: ArtifactFigures, before: ArtifactFigures, budgets: Budgets) -> Iterator[Finding]:
    budget_of = {
        "cosine_mean": budgets.cosine_mean_fall,
        "cosine_p1": budgets.cosine_p1_fall,
        "cosine_min": budgets.cosine_min_fall,
    }
    here, there = now.agreement, before.agreement
    if here is None and there is None:
        return
    if here is None or there is None or (here.what, here.images) != (there.what, there.images):
        said = "the two reports do not have the agreement on the same images"
        outcome: Outcome = "failed" if here is None else "not comparable"
        yield Finding(now.name, "agreement", outcome, f"{said}; --update makes this one the baseline")
        return
    for figure, budget in budget_of.items():
        if budget is not None:
            yield fallen(now.name, figure, getattr(here, figure), getattr(there, figure), budget)


def fallen(name: str, figure: str, now: float, before: float, budget: float) -> Finding:
    """Return the finding on a figure that should be high and may fall by so much."""
    allowed = before - budget
    fine = now >= allowed - LEAST
    moved = f"{abs(now - before):.5f} {'lower' if now < before else 'higher'}"
    compared = "as in the baseline" if now == before else f"{moved} than the baseline's {before:.5f}"
    ending = f"; {budget:g} lower is allowed" if now < before else ""
    said = f"{figure} {now:.5f}, {compared}{ending}"
    return Finding(
        name, figure, "passed" if fine else "failed", said, now, before, allowed, improved=now > before + LEAST
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _change(share: float) -> str:
    return "exactly" if share == 0 else f"{100 * abs(share):.2f} % {'more' if share > 0 else 'less'} than"
