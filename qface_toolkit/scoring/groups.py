"""Whether compression costs one group of people more than another: every loss within each group, with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.compare import Comparison, compare_models
from qface_toolkit.scoring.embeddings import Owners
from qface_toolkit.scoring.rates import FARS, far_key
from qface_toolkit.scoring.resampling import Figures, Samples, estimates

LEAST_PEOPLE = 10
_LOSSES = ("cosine_mean", "cosine_p1", "tar_lost@", "mixed_tar_lost@")


@dataclass(frozen=True)
class GroupLosses:
    """What a group loses; both images of a pair are of the group.

    `figures` are named as in `compare.Comparison.samples`: cosine_mean, cosine_p1, tar_lost@FAR and mixed_tar_lost@FAR;
    `gaps` are the same less those of all images. `unsupported` are the rates for which the group has too few impostors.
    `skipped` says why there are no figures.
    """

    images: int
    people: int
    figures: Figures = field(default_factory=dict)
    gaps: Figures = field(default_factory=dict)
    unsupported: tuple[str, ...] = ()
    skipped: str | None = None


def measure_groups(
    everybody: Comparison,
    groups: Sequence[str | None],
    fars: Sequence[float] = FARS,
    least_people: int = LEAST_PEOPLE,
) -> dict[str, GroupLosses]:
    """Compare two models within each group, in the order of their names; `groups` has one an image.

    An image without a group (None or "") counts for all images alone. A group is a set of its own, with thresholds of
    its own, so its pairs are scored once more.

    Raises:
        MeasurementError: if there is not one group for each image.
    """
    if len(groups) != len(everybody.owners):
        what = f"{len(groups)} groups came for {len(everybody.owners)} images"
        raise MeasurementError(what, where="groups", fix="give one group, or none, for each image")
    labels = np.array([group or "" for group in groups])
    names = sorted({*labels.tolist()} - {""})
    return {name: _group(everybody, np.flatnonzero(labels == name), fars, least_people) for name in names}


def _group(everybody: Comparison, rows: Owners, fars: Sequence[float], least_people: int) -> GroupLosses:
    owners = everybody.owners[rows]
    people = len(np.unique(owners))
    if people < least_people:
        skipped = f"{people} people are too few for an interval: at least {least_people} are needed"
        return GroupLosses(len(rows), people, skipped=skipped)
    reference, other = (np.asarray(side)[rows] for side in (everybody.reference, everybody.other))
    try:
        samples = _losses(compare_models(reference, other, owners, everybody.draws, fars))
    except MeasurementError as error:
        return GroupLosses(len(rows), people, skipped=error.what)
    whole = _losses(everybody)
    gaps = {name: (value - whole[name][0], drawn - whole[name][1]) for name, (value, drawn) in samples.items()}
    missing = tuple(far_key(far) for far in fars if f"tar_lost@{far_key(far)}" not in samples)
    return GroupLosses(len(rows), people, estimates(samples), estimates(gaps), missing)


def _losses(comparison: Comparison) -> Samples:
    return {name: sample for name, sample in comparison.samples.items() if name.startswith(_LOSSES)}
