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
    """Return the ratio of two mean losses, of the set and of every draw; no loss at all is no difference."""
    (value, drawn), (whole, all_drawn) = group, everybody
    ratios = np.divide(1 - drawn, 1 - all_drawn, out=np.ones_like(drawn), where=all_drawn < 1)
    return (1 - value) / (1 - whole) if whole < 1 else 1.0, ratios


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
    labels, people = np.array(groups), draws.shape[1]
    lost, images = np.bincount(owners, 1 - cosines, people), np.bincount(owners, minlength=people)
    everybody = float((1 - cosines).mean()), (draws @ lost) / (draws @ images)
    found = []
    for name in dict.fromkeys(labels.tolist()):
        members = np.isin(np.arange(people), owners[labels == name])
        if name and members.sum() >= least_people:
            counted = draws * members
            mean, weight = float((1 - cosines[labels == name]).mean()), counted @ images
            drawn = np.divide(counted @ lost, weight, out=np.full(len(draws), np.nan), where=weight > 0)
            ratio = estimate(mean / everybody[0] if everybody[0] else 1.0, drawn / np.maximum(everybody[1], 1e-12))
            found.append(GroupLoss(str(name), int(members.sum()), 1 - mean, ratio))
    return tuple(found)
