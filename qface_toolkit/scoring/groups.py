"""Whether compression costs one group of people more than another: every loss within each group, with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.compare import Comparison, compare_models
from qface_toolkit.scoring.embeddings import Floats, Owners
from qface_toolkit.scoring.rates import FARS, far_key
from qface_toolkit.scoring.resampling import Draws, Estimate, Figures, Samples, estimate, estimates

Drawn = npt.NDArray[np.float64]
"""A figure of every draw of the people, [draws]."""

LEAST_PEOPLE = 10
SMALLEST_LOSS = 1e-6
"""A mean loss in cosine below which two models are the same, and no group can lose more than another."""
_LOSSES = ("cosine_", "tar_lost@", "mixed_tar_lost@")


@dataclass(frozen=True)
class GroupLosses:
    """What a group loses; both images of a pair are of the group.

    `figures` are named as in `compare.Comparison.samples`: all cosines, tar_lost@FAR and mixed_tar_lost@FAR; `gaps` are
    the same less those of all images. `loss_ratio` among the figures is the mean of 1 - cosine divided by that of all
    images. `unsupported` are the rates for which the group has too few impostors.
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
    names: Sequence[str] = (),
) -> dict[str, GroupLosses]:
    """Compare two models within each group, in the order in which `names` has them; `groups` has one an image.

    Without `names` their own order counts. An image without a group (None or "") counts for all images alone. A group
    is a set of its own, with thresholds of its own, so its pairs are scored once more.

    Raises:
        MeasurementError: if there is not one group for each image.
    """
    if len(groups) != len(everybody.owners):
        what = f"{len(groups)} groups came for {len(everybody.owners)} images"
        raise MeasurementError(what, where="groups", fix="give one group, or none, for each image")
    labels = np.array([group or "" for group in groups])
    there = {*labels.tolist()} - {""}
    ordered = [name for name in names if name in there] if names else sorted(there)
    return {name: _group(everybody, np.flatnonzero(labels == name), fars, least_people) for name in ordered}


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
    samples["loss_ratio"] = _ratio(samples["cosine_mean"], whole["cosine_mean"])
    missing = tuple(far_key(far) for far in fars if f"tar_lost@{far_key(far)}" not in samples)
    return GroupLosses(len(rows), people, estimates(samples), estimates(gaps), missing)


def _ratio(group: tuple[float, Drawn], everybody: tuple[float, Drawn]) -> tuple[float, Drawn]:
    """Return the ratio of two mean losses, by their mean cosines, of the set and of every draw; NaN stays."""
    (value, drawn), (whole, all_drawn) = group, everybody
    if 1 - whole < SMALLEST_LOSS:
        return 1.0, np.ones_like(drawn)
    return (1 - value) / (1 - whole), (1 - drawn) / np.maximum(1 - all_drawn, SMALLEST_LOSS)


def _losses(comparison: Comparison) -> Samples:
    return {name: sample for name, sample in comparison.samples.items() if name.startswith(_LOSSES)}


@dataclass(frozen=True)
class GroupLoss:
    """The mean cosine of a group's images, and its mean loss divided by that of all, with its interval."""

    name: str
    people: int
    cosine_mean: float
    loss_ratio: Estimate


def losses_by_group(
    cosines: Floats, owners: Owners, groups: Sequence[str], draws: Draws, least_people: int
) -> tuple[GroupLoss, ...]:
    """Return what each group of people loses, in the order of `groups` [N]; those of too few people are left out.

    `cosines` [N] are those of the images, `owners` [N] whose they are by numbers from 0, `draws` [draws, people].
    """
    labels, found = np.array(groups), []
    everybody = _mean_of_draws(cosines, owners, draws)
    for name in dict.fromkeys(labels.tolist()):
        rows = np.flatnonzero(labels == name)
        members = len(np.unique(owners[rows]))
        if name and members >= least_people:
            own = _mean_of_draws(cosines[rows], owners[rows], draws)
            found.append(GroupLoss(str(name), members, own[0], estimate(*_ratio(own, everybody))))
    return tuple(found)


def _mean_of_draws(cosines: Floats, owners: Owners, draws: Draws) -> tuple[float, Drawn]:
    """Return the mean cosine of images, and of those in each draw of their people; NaN where a draw has none."""
    people = draws.shape[1]
    summed, images = np.bincount(owners, cosines, people), np.bincount(owners, minlength=people)
    weight = draws @ images
    drawn = np.divide(draws @ summed, weight, out=np.full(len(draws), np.nan), where=weight > 0)
    return float(cosines.mean()), drawn
