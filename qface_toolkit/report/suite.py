"""A model on all the sets that the papers report, beside the rows that they published."""

from collections.abc import Mapping
from typing import Literal

from qface_toolkit.report.evaluation import Evaluation, ModelFigures
from qface_toolkit.report.figures import NOTHING, Block, Rate, clean
from qface_toolkit.report.page import Section, Table

SUITE_VERSION: Literal[1] = 1
TITLES = {
    "lfw": "LFW",
    "cfp_fp": "CFP-FP",
    "agedb_30": "AgeDB",
    "calfw": "CALFW",
    "cplfw": "CPLFW",
    "ijbb": "IJB-B",
    "ijbc": "IJB-C",
}
_IJB_FAR = "1e-4"
LONGEST_ROW = 30


class PublishedFigures(Block):
    """A row that somebody published, with where: pair accuracy, or TAR at FAR 1e-4 for the two IJB sets."""

    system: str
    model: str
    config: str
    figures: dict[str, Rate]
    source: str
    note: str | None = None


class Suite(Block):
    """One model on every set that was there, by the set's key; `missing` says what was looked for and `failed`
    what is wrong with a set that is there."""

    schema_version: Literal[1] = SUITE_VERSION
    evaluations: dict[str, Evaluation]
    missing: dict[str, str]
    failed: dict[str, str] = {}
    published: tuple[PublishedFigures, ...]


def suite_sections(suite: Suite) -> list[Section]:
    """Return the table of all sets, ours first, and what was not there."""
    rows = [_own_row(suite, reference) for reference in (True, False)]
    rows += [(f"{one.system} {one.model} {one.config}", *_cells(one.figures)) for one in suite.published]
    said = ("Accuracy of pairs, and TAR at FAR 1e-4 for IJB, in percent; the rows below ours are as published.",)
    missing = tuple(f"{TITLES[key]} is not here: {clean(what)}" for key, what in suite.missing.items())
    missing += tuple(f"{TITLES[key]} has no figures: {clean(what)}" for key, what in suite.failed.items())
    sources = tuple(dict.fromkeys(f"{one.system}: {one.source}" for one in suite.published))
    title = "On the sets of the papers"
    table = Table(title, ("", *TITLES.values()), [row for row in rows if row])
    uncertain = tuple(f"{one.system} {one.model} {one.config}: {one.note}" for one in suite.published if one.note)
    return [Section("suite", title, said, (table,)), Section("sources", "Sources", (*sources, *uncertain, *missing))]


def _own_row(suite: Suite, reference: bool) -> tuple[str, ...]:
    found = next(iter(suite.evaluations.values()))
    if reference:
        if found.reference is None:
            return ()
        figures = {key: _main(one.reference_figures) for key, one in suite.evaluations.items()}
        return _row(f"{clean(found.reference.name, LONGEST_ROW - 8)} (float)", figures)
    return _row(clean(found.model.name, LONGEST_ROW), {k: _main(one.figures) for k, one in suite.evaluations.items()})


def _main(figures: ModelFigures | None) -> float | None:
    if figures is None:
        return None
    if figures.pair_list is not None:
        return figures.pair_list.pair_accuracy
    return figures.templates.tar_ijb.get(_IJB_FAR) if figures.templates else None


def _row(name: str, figures: Mapping[str, float | None]) -> tuple[str, ...]:
    return (clean(name, LONGEST_ROW), *_cells(figures))


def _cells(figures: Mapping[str, float | None]) -> list[str]:
    values = [figures.get(key) for key in TITLES]
    return [NOTHING if value is None else f"{100 * value:.2f}" for value in values]
