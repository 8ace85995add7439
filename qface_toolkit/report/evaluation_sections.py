"""What an evaluation has to tell, as sections: the terminal, evaluation.md and report.html show the same."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from qface_toolkit.report import plots
from qface_toolkit.report.evaluation import (
    DecisionFigures,
    DriftFigures,
    Evaluation,
    Figure,
    ModelFigures,
    PairedFigures,
)
from qface_toolkit.report.evaluation_groups import groups_sections
from qface_toolkit.report.evaluation_verdict import LONGEST_NAME, data_said, evaluation_verdict, interval, points
from qface_toolkit.report.figures import NOTHING, clean, cosine
from qface_toolkit.report.page import Plot, Section, Table

PAIRS_SHOWN = 10
TELLING = "Telling people apart"
PLOT = "evaluation.svg"
"""The picture beside an evaluation: both of its plots."""

ACCURACY, LOSSES, CHANGED = "evaluation-accuracy", "evaluation-losses", "evaluation-changed"
"""Keys of those sections that a page treats by themselves."""


def evaluation_sections(found: Evaluation) -> list[Section]:
    """Return everything that there is to tell beside the verdict, most important first."""
    paired = found.paired
    accuracy = _accuracy(found)
    sections = [replace(accuracy, blocks=(*accuracy.blocks, *_plots(found)))]
    if paired is not None:
        sections += [_losses(paired), *_operating(paired), *_drift(paired), *_changed(paired)]
    return [*sections, *groups_sections(found), _conditions(found)]


def evaluation_section(found: Evaluation, *, own: bool) -> Section:
    """Return an evaluation as a part of report.html; `own` tells whether it is of a file of the report."""
    said = [one.plain for one in evaluation_verdict(found)]
    if not own:
        said.append("This evaluation is of a file that this report does not hold.")
    title = f"Evaluated on {clean(found.data.name, 40)}"
    return Section("evaluation", title, said, parts=evaluation_sections(found), page_only=True)


def _section(
    key: str,
    title: str,
    said: Sequence[str],
    headings: Sequence[str] = (),
    rows: Sequence[Sequence[str]] = (),
) -> Section:
    return Section(key, title, said, [Table(title, headings, rows)] if rows else ())


def _plots(found: Evaluation) -> list[Plot]:
    pictures = enumerate(plots.evaluation_pictures(found).items())
    drawn = [
        Plot(f"plot-evaluation-{place}", caption, f"{caption}; the table has the figures.", draw)
        for place, (caption, draw) in pictures
    ]
    # One picture beside the page shows all of them.
    return [replace(drawn[0], file=PLOT, alt="DET curve and scores"), *drawn[1:]] if drawn else []


def _models(found: Evaluation) -> Iterator[tuple[str, ModelFigures]]:
    if found.reference is not None and found.reference_figures is not None:
        yield f"{clean(found.reference.name, LONGEST_NAME - 8)} (float)", found.reference_figures
    yield clean(found.model.name, LONGEST_NAME), found.figures


def _accuracy(found: Evaluation) -> Section:
    if found.figures.every_pair is not None:
        return _every_pair(found)
    if found.figures.pair_list is not None:
        headings = ("", "accuracy", "spread", "TAR@1e-3", "spread")
        lists = ((name, one.pair_list) for name, one in _models(found) if one.pair_list)
        rows = [
            (
                name,
                *(_percent(value) for value in (one.pair_accuracy, one.pair_accuracy_std)),
                _percent(one.tar_bin.get("1e-3")),
                _percent(one.tar_bin_std.get("1e-3")),
            )
            for name, one in lists
        ]
        folds = found.data.details.get("folds")
        said = (f"{found.data.pairs:,} pairs in {folds} folds, each judged by the best threshold of the others.",)
        return _section(ACCURACY, TELLING, said, headings, rows)
    return _templates(found)


def _every_pair(found: Evaluation) -> Section:
    models = [(name, one.every_pair) for name, one in _models(found) if one.every_pair]
    first = models[0][1]
    fars = list(first.rates.tar)
    rows = []
    for name, one in models:
        cells = [_percent(one.rates.tar.get(far)) for far in fars]
        rows.append((name, *cells, _percent(one.rates.eer), _percent(one.rank1)))
        balanced = [_percent(one.balanced.tar.get(far)) for far in fars]
        rows.append(("  balanced", *balanced, _percent(one.balanced.eer), ""))
    said = [
        f"TAR at each FAR over {first.genuine:,} genuine and {first.impostors:,} impostor pairs, in percent.",
        "Balanced: every person, and every two people, weigh the same. EER: the share of mistakes where both kinds are "
        "equally frequent. Rank-1: of images whose nearest other one shows the same person.",
    ]
    if first.rates.unsupported:
        left = ", ".join(first.rates.unsupported)
        said.append(f"FAR {left}: left out, the impostor pairs are too few for it.")
    return _section(ACCURACY, TELLING, said, ("", *fars, "EER", "rank-1"), rows)


def _templates(found: Evaluation) -> Section:
    models = [(name, one.templates) for name, one in _models(found) if one.templates]
    if not models:
        return _section(ACCURACY, TELLING, ())
    fars = list(models[0][1].tar_ijb)
    rows = [(name, *(_percent(one.tar_ijb.get(far)) for far in fars)) for name, one in models]
    first = models[0][1]
    said = [f"TAR at the FPR nearest to each FAR, {first.genuine:,} genuine and {first.impostors:,} impostor pairs."]
    if first.unsupported:
        said.append(f"FAR {', '.join(first.unsupported)}: less than one impostor pair, so the FPR is far from it.")
    return _section(ACCURACY, TELLING, said, ("", *fars), rows)


_LOSSES = {
    "tar": "TAR",
    "mixed_tar": "TAR, float gallery",
    "pair_accuracy": "pair accuracy",
    "mixed_pair_accuracy": "pair accuracy, float gallery",
}


_COSINES = {
    "cosine_mean": "mean",
    "cosine_p1": "1st percentile",
    "cosine_min": "lowest",
    "cosine_worst_person": "mean of worst person",
}


def _losses(paired: PairedFigures) -> Section:
    rows = []
    for name, figure in paired.figures.items():
        kind, _, far = name.partition("@")
        if kind.endswith("_lost"):
            base = kind.removesuffix("_lost")
            with_far = f"@{far}" if far else ""
            before = paired.figures.get(f"float_{base.removeprefix('mixed_')}{with_far}")
            after = paired.figures.get(f"{base}{with_far}")
            values = [_percent(one.value if one else None) for one in (before, after)]
            rows.append((f"{_LOSSES.get(base, base)}{with_far}", *values, points(figure), interval(figure, 100, 2)))
    for name, words in _COSINES.items():
        if name in paired.figures:
            one = paired.figures[name]
            rows.append((f"cosine, {words}", "", cosine(one.value), "", interval(one, 1, 4)))
    said = (
        "Rates in percent, losses in points, with 95 % intervals (people drawn anew, thresholds found anew).",
        "Float gallery: the gallery is embedded by the float model, the probes by this one.",
    )
    return _section(LOSSES, "What is lost against the float model", said, ("", "float", "this", "lost", "95 %"), rows)


def _operating(paired: PairedFigures) -> list[Section]:
    if not paired.at:
        return _decided(paired)
    rows, decided = [], []
    for far, one in paired.at.items():
        shift = f"{_number(one.shift, '+.4f')} {interval(one.shift, 1, 4)}"
        kept = _number(one.kept_far, ".1e"), _percent(one.kept_tar.value)
        rows.append((far, _number(one.float_threshold), _number(one.threshold), shift, *kept))
        decided += [_decision_row(far, one.own), _decision_row("  kept", one.kept)]
    thresholds = _section(
        "evaluation-thresholds",
        "Thresholds",
        ("Cosine thresholds at each FAR, and what FAR and TAR become if the float model's threshold is kept.",),
        ("FAR", "float", "recommended", "shift (95 %)", "FAR kept", "TAR kept"),
        rows,
    )
    return [thresholds, _decisions(decided)]


def _decided(paired: PairedFigures) -> list[Section]:
    named = (("own", paired.own), ("kept", paired.kept))
    rows = [_decision_row(name, one) for name, one in named if one]
    return [_decisions(rows, "thresholds")] if rows else []


def _decisions(rows: Sequence[tuple[str, ...]], first: str = "FAR") -> Section:
    said = (
        "Shares of pairs, in percent, that the two models decide otherwise, each model at its own threshold; kept: "
        "both at the float model's. evaluation.json has their intervals.",
    )
    headings = (first, "genuine lost", "genuine won", "impostors let in", "impostors kept out")
    return _section("evaluation-decisions", "Decisions that changed", said, headings, rows)


def _decision_row(name: str, one: DecisionFigures) -> tuple[str, ...]:
    figures = (one.genuine_lost, one.genuine_won, one.impostor_won, one.impostor_lost)
    return (name, *(_share(figure.value) for figure in figures))


def _drift(paired: PairedFigures) -> list[Section]:
    named = (("genuine", paired.genuine_drift), ("impostor", paired.impostor_drift))
    rows = [_drift_row(name, one) for name, one in named if one]
    headings = ("scores", "mean (95 %)", "spread", "1 %", "50 %", "99 %")
    said = ("This model's score less the float model's.",)
    return [_section("evaluation-drift", "How scores moved", said, headings, rows)] if rows else []


def _drift_row(name: str, one: DriftFigures) -> tuple[str, ...]:
    cells = (NOTHING if value is None else f"{value:+.4f}" for value in map(one.percentiles.get, ("1", "50", "99")))
    return (name, f"{_number(one.mean, '+.4f')} {interval(one.mean, 1, 4)}", f"{one.std:.4f}", *cells)


def _changed(paired: PairedFigures) -> list[Section]:
    rows = [
        (
            f"{clean(one.first, 60)} / {clean(one.second, 60)}",
            "genuine" if one.same else "impostor",
            f"{one.reference:.4f}",
            f"{one.other:.4f}",
        )
        for kind in (True, False)
        for one in [pair for pair in paired.most_changed if pair.same == kind][:PAIRS_SHOWN]
    ]
    headings = ("pair", "kind", "float", "this")
    return [_section(CHANGED, "Pairs that changed most", (), headings, rows)] if rows else []


def _conditions(found: Evaluation) -> Section:
    model = found.model
    lines = [f"{clean(model.name)}: {clean(model.runtime)}, {model.embedding_size} numbers, sha256 {model.sha256[:12]}"]
    if found.reference:
        lines.append(f"float model: {clean(found.reference.name)}, {clean(found.reference.runtime)}")
    flip = "added" if found.flip else "not used"
    lines.append(f"images: {data_said(found)}, sha256 {found.data.sha256[:12]}; mirrored image: {flip}")
    return Section("evaluation-conditions", "Conditions", (*lines, *map(clean, found.notes)))


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.2f}"


def _share(value: float | None) -> str:
    if not value:
        return NOTHING if value is None else "0"
    return f"{100 * value:.2g}" if value < 0.001 else f"{100 * value:.2f}"


def _number(one: Figure, form: str = ".4f") -> str:
    return NOTHING if one.value is None else f"{one.value:{form}}"
