"""What each protocol makes of a model's embeddings, and of its float model's where there is one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from qface_toolkit.evaluation import FaceImages, Groups, PairSet, PeopleSet, Rows, shown_text
from qface_toolkit.methods import Progress
from qface_toolkit.report.evaluation import (
    ChangedPairFigures,
    DecisionFigures,
    DriftFigures,
    EveryPairFigures,
    GroupFigures,
    HistogramFigures,
    ModelFigures,
    OperatingFigures,
    PairedFigures,
    PairListFigures,
    plain_figures,
)
from qface_toolkit.report.figures import Block
from qface_toolkit.scoring.compare import compare_models
from qface_toolkit.scoring.drift import ChangedPair
from qface_toolkit.scoring.embeddings import Scores, unit_rows
from qface_toolkit.scoring.groups import measure_groups
from qface_toolkit.scoring.pair_list import Pairs, fold_accuracy, measure_pair_list, people_of_pairs, squared_distances
from qface_toolkit.scoring.paired import Operating, Paired, measure_paired
from qface_toolkit.scoring.rates import far_key
from qface_toolkit.scoring.resampling import draw_people
from qface_toolkit.scoring.separation import HISTOGRAM_BINS, ScoreHistogram, Separation, measure_separation
from qface_toolkit.scoring.tar_bin import tar_bin

FAR_OF_LISTS = 1e-3
B = TypeVar("B", bound=Block)


@dataclass(frozen=True)
class Judged:
    """What came out: each model's own figures, the two side by side, and what a reader must know."""

    figures: ModelFigures
    reference: ModelFigures | None = None
    paired: PairedFigures | None = None
    groups: dict[str, GroupFigures] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def judge_people(
    people: PeopleSet,
    rows: Rows,
    reference: Rows | None,
    groups: Groups | None,
    draws: int,
    seed: int,
    progress: Progress,
) -> Judged:
    """Compare every two images of a set of people; embeddings [N, D] of each model.

    Raises:
        MeasurementError: if an embedding is unusable, or there are no pairs of both kinds.
    """
    if reference is None:
        alone = _every_pair(measure_separation(rows, people.owners, progress=progress))
        return Judged(ModelFigures(every_pair=alone), notes=(*people.notes, *_ties("this model", alone)))
    drawn = draw_people(len(people.people), draws, seed)
    comparison = compare_models(reference, rows, people.owners, drawn, progress=progress)
    before, after = map(_every_pair, comparison.alone)
    found: dict[str, GroupFigures] = {}
    if groups is not None:
        names = [groups.names[group] if group >= 0 else "" for group in groups.of_image]
        found = {
            name: _block(GroupFigures, one)
            for name, one in measure_groups(comparison, names, names=groups.names).items()
        }
    ties = (*_ties("this model", after), *_ties("the float model", before))
    notes = (*people.notes, *ties, *(groups.notes if groups else ()), *_too_large(comparison.too_large))
    side_by_side = _side_by_side(measure_paired(comparison), people.images)
    return Judged(ModelFigures(every_pair=after), ModelFigures(every_pair=before), side_by_side, found, notes)


def _side_by_side(paired: Paired, images: FaceImages) -> PairedFigures:
    return PairedFigures(
        figures=plain_figures(paired.figures),
        genuine_drift=_block(DriftFigures, paired.genuine_drift),
        impostor_drift=_block(DriftFigures, paired.impostor_drift),
        at={far: _operating(one, images) for far, one in paired.at.items()},
        most_changed=_changed(paired.most_changed, images),
    )


def _too_large(fars: Sequence[str]) -> list[str]:
    return [f"FAR {', '.join(fars)}: not compared, the pairs that reach so far would fill the memory"] if fars else []


def _every_pair(found: Separation) -> EveryPairFigures:
    return _block(EveryPairFigures, found)


def _ties(name: str, found: EveryPairFigures) -> Iterator[str]:
    for far in found.rates.tied():
        let_in = f"{100 * found.rates.reached[far]:.3g} % of the impostor pairs"
        yield f"{name} gives {let_in} the score of its threshold for FAR {far} or more: its TAR there says nothing"


def judge_pairs(found: PairSet, rows: Rows, reference: Rows | None, draws: int, seed: int) -> Judged:
    """Compare the pairs of a list; embeddings [N, D] of its different images by each model.

    Raises:
        MeasurementError: if an embedding is unusable, or the pairs cannot be cut into the folds.
    """
    figures = ModelFigures(pair_list=_pair_list(rows, found.pairs))
    if reference is None:
        return Judged(figures, notes=found.notes)
    owners = people_of_pairs(found.pairs, len(found.images))
    drawn = draw_people(int(owners.max()) + 1, draws, seed)
    losses = measure_pair_list(reference, rows, found.pairs, owners, drawn)
    paired = PairedFigures(
        figures=plain_figures(losses.figures),
        genuine_drift=_block(DriftFigures, losses.genuine_drift),
        impostor_drift=_block(DriftFigures, losses.impostor_drift),
        own=_block(DecisionFigures, losses.own),
        kept=_block(DecisionFigures, losses.kept),
        most_changed=_changed(losses.most_changed, found.images),
    )
    people = f"{owners.max() + 1:,} people apart, for intervals"
    note = f"the list names nobody: genuine pairs and shared images tell {people}"
    of_reference = ModelFigures(pair_list=_pair_list(reference, found.pairs))
    return Judged(figures, of_reference, paired, notes=(*found.notes, note))


def _pair_list(rows: Rows, pairs: Pairs) -> PairListFigures:
    distances = squared_distances(unit_rows(rows), pairs)
    accuracy, spread = fold_accuracy(distances, pairs.same, pairs.folds)
    tar = tar_bin(distances, pairs.same, pairs.folds, FAR_OF_LISTS)
    key = far_key(FAR_OF_LISTS)
    return PairListFigures(
        pair_accuracy=accuracy,
        pair_accuracy_std=spread,
        tar_bin={key: tar.tar},
        tar_bin_std={key: tar.tar_std},
        pairs=len(pairs.same),
        histogram=_histogram(distances, pairs),
    )


def _histogram(distances: Scores, pairs: Pairs) -> HistogramFigures:
    scores = np.clip(1 - distances / 2, -1, 1)
    edges = np.linspace(-1, 1, HISTOGRAM_BINS + 1)
    genuine, impostor = (np.histogram(scores[chosen], edges)[0] for chosen in (pairs.same, ~pairs.same))
    return _block(HistogramFigures, ScoreHistogram(edges, genuine, impostor))


def _operating(one: Operating, images: FaceImages) -> OperatingFigures:
    names = ("float_threshold", "threshold", "shift", "kept_far", "kept_tar")
    values = plain_figures({name: getattr(one, name) for name in names})
    own, kept = (_block(DecisionFigures, decided) for decided in (one.own, one.kept))
    return OperatingFigures(**values, own=own, kept=kept, flipped=_changed(one.flipped, images))


def _changed(pairs: Sequence[ChangedPair], images: FaceImages) -> tuple[ChangedPairFigures, ...]:
    return tuple(
        ChangedPairFigures(
            first=shown_text(images.name(one.first)),
            second=shown_text(images.name(one.second)),
            same=one.same,
            reference=one.reference,
            other=one.other,
        )
        for one in pairs
    )


def _block(kind: type[B], measured: object) -> B:
    """Return what was measured as a block of the report, whose fields have the same names."""
    return kind.model_validate(measured, from_attributes=True)
