"""What each group of people loses, as a section of an evaluation."""

from collections.abc import Mapping

from qface_toolkit.report.evaluation import Evaluation, Figure, GroupFigures
from qface_toolkit.report.evaluation_verdict import LONGEST_NAME, interval, points
from qface_toolkit.report.figures import NOTHING, clean, cosine
from qface_toolkit.report.page import Section, Table


def groups_sections(found: Evaluation) -> list[Section]:
    """Return the section on groups, if people were put into any: cosines first, then rates."""
    if not found.groups:
        return []
    skipped: dict[str, list[str]] = {}
    for name, one in found.groups.items():
        if one.skipped:
            skipped.setdefault(one.skipped, []).append(clean(name, LONGEST_NAME))
    left = [f"{', '.join(names)}: no figures, {clean(why)}" for why, names in skipped.items()]
    said = ("Pairs within each group; losses in points. Loss: the mean of 1 - cosine against that of all.", *left)
    measured = {name: one for name, one in found.groups.items() if not one.skipped}
    tables = [_group_cosines(found, measured), _group_rates(measured)] if measured else []
    return [Section("evaluation-groups", "Groups", said, tables)]


def _group_cosines(found: Evaluation, groups: Mapping[str, GroupFigures]) -> Table:
    kinds = ("cosine_mean", "cosine_p1", "cosine_min", "cosine_worst_person")
    every = found.paired.figures if found.paired else {}
    rows = [("all", "", *(_cosine(every, kind) for kind in kinds), "1.00")]
    for name, one in groups.items():
        cosines = (_cosine(one.figures, kind) for kind in kinds)
        rows.append((clean(name, LONGEST_NAME), f"{one.people:,}", *cosines, _ratio(one.figures.get("loss_ratio"))))
    headings = ("group", "people", "mean", "1 %", "lowest", "person", "loss (95 %)")
    title = "Cosines within each group; 1 %: of the images are below; person: the lowest mean of one person"
    return Table(title, headings, rows)


def _group_rates(groups: Mapping[str, GroupFigures]) -> Table:
    fars = [key.partition("@")[2] for one in groups.values() for key in one.figures if key.startswith("tar_lost")]
    far = "1e-4" if "1e-4" in fars else min(fars, key=float, default="")
    rows = [
        (clean(name, LONGEST_NAME), *_lost_and_gap(one.figures, one.gaps, f"tar_lost@{far}"))
        for name, one in groups.items()
    ]
    return Table("Rates within each group", ("group", f"TAR@{far} lost (95 %)", "more than all (95 %)"), rows)


def _cosine(figures: Mapping[str, Figure], kind: str) -> str:
    return cosine(figures[kind].value if kind in figures else None)


def _ratio(one: Figure | None) -> str:
    if one is None or one.value is None:
        return NOTHING
    return f"{one.value:.2f} {interval(one, 1, 2)}"


def _lost_and_gap(figures: Mapping[str, Figure], gaps: Mapping[str, Figure], key: str) -> list[str]:
    found = (figures.get(key), gaps.get(key))
    return [NOTHING if one is None else f"{points(one)} {interval(one, 100, 2)}" for one in found]
