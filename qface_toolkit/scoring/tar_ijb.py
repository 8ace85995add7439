"""TAR by the protocol of IJB, whose threshold stands at a point of the curve, and what a compressed model loses by it.

Whose template is whose is known from the genuine pairs (`scoring.pair_list.people_of_pairs`); these people are drawn
anew. Millions of impostor pairs are too many for every draw: those with the best scores are kept, where the thresholds
are, and of the others only how many there are between each two people.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.both_models import MOST_KEPT, SPARE
from qface_toolkit.scoring.embeddings import Floats, Owners
from qface_toolkit.scoring.rates import far_key, rank_of
from qface_toolkit.scoring.resampling import Draws, Estimate, Figures, estimate

FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_PEOPLE_AT_ONCE = 512

Numbers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TarIjb:
    """TAR at the false positive rate nearest to each rate, and which that was, both by rate ("1e-4").

    `unsupported` are the rates below what one impostor pair of all makes; their TAR is that of the nearest rate.
    """

    tar: dict[str, float]
    fpr: dict[str, float]
    genuine: int
    impostors: int
    unsupported: tuple[str, ...]


@dataclass(frozen=True)
class ListedScores:
    """Three scores of each listed pair of templates [pairs]: by the reference, by the other model, and by both.

    `mixed` has the reference's first template and the other's second one.
    """

    reference: Floats
    other: Floats
    mixed: Floats


def tar_ijb(scores: Floats, same: npt.NDArray[np.bool_], fars: Sequence[float] = FARS) -> TarIjb:
    """Return TAR at the false positive rate of the curve that is nearest to each rate, not interpolated.

    The curve has a point for each different score, as the threshold that accepts it, and (0, 0); points on a straight
    line between their neighbours are left out, as scikit-learn's roc_curve does by default. Of points with one false
    positive rate the highest counts, and of two equally near ones the one with the larger rate.

    Raises:
        MeasurementError: if there are no pairs of both kinds, or a score is not finite.
    """
    flags = np.asarray(same, dtype=np.bool_)
    if len(scores) != len(flags) or flags.all() or not flags.any():
        raise MeasurementError("TAR needs genuine and impostor pairs", fix="give pairs of both kinds, each scored")
    if not np.isfinite(scores).all():
        raise MeasurementError("a score is not finite", where=f"pair {np.flatnonzero(~np.isfinite(scores))[0] + 1}")
    positives, negatives = roc_points(scores, flags)
    genuine, impostors = int(positives[-1]), int(negatives[-1])
    tar: dict[str, float] = {}
    fpr: dict[str, float] = {}
    for far in fars:
        gaps = np.abs(negatives / impostors - far)[::-1]
        at = len(gaps) - 1 - int(gaps.argmin())
        tar[far_key(far)], fpr[far_key(far)] = float(positives[at] / genuine), float(negatives[at] / impostors)
    missing = tuple(far_key(far) for far in fars if not rank_of(far, impostors))
    return TarIjb(tar, fpr, genuine, impostors, missing)


def roc_points(scores: Floats, same: npt.NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """Return how many genuine and impostor pairs are accepted at each corner of the curve, from (0, 0) upwards."""
    order = np.argsort(scores)[::-1]
    ordered = np.asarray(scores)[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    positives = np.cumsum(same[order])[last]
    negatives = last + 1 - positives
    if len(last) > 2:
        bent = (np.diff(positives, 2) != 0) | (np.diff(negatives, 2) != 0)
        corners = np.concatenate([[True], bent, [True]])
        positives, negatives = positives[corners], negatives[corners]
    return np.concatenate([[0], positives]), np.concatenate([[0], negatives])


def measure_template_losses(
    scores: ListedScores,
    same: npt.NDArray[np.bool_],
    owners: tuple[Owners, Owners],
    draws: Draws,
    fars: Sequence[float] = FARS,
) -> Figures:
    """Return TAR of each comparison and what is lost, named as in `Comparison.samples`; `owners` are each pair's.

    A figure is that of `tar_ijb`; its draws take the nearest false positive rate of all there are. Of rates
    whose pairs would fill the memory there is no interval: its ends are NaN.

    Raises:
        MeasurementError: if there are no pairs of both kinds, or a score is not finite.
    """
    flags = np.asarray(same, dtype=np.bool_)
    if any(len(side) != len(flags) for side in owners) or int(max(map(np.max, owners))) >= draws.shape[1]:
        fix = "give one for each side"
        raise MeasurementError("each pair of templates needs two owners among those drawn", fix=fix)
    impostors = _weigh_impostors(owners[0][~flags], owners[1][~flags], draws)
    near = [far for far in fars if 2 * SPARE * far * (~flags).sum() <= MOST_KEPT]
    found = {}
    for name, one in (("float_tar", scores.reference), ("tar", scores.other), ("mixed_tar", scores.mixed)):
        whole = tar_ijb(one, flags, fars)
        best = _Best(one, flags, owners, int(SPARE * max(near, default=0.0) * (~flags).sum()) + 1000)
        drawn = np.array([best.tar(near, counts, total) for counts, total in zip(draws, impostors, strict=True)])
        found[name] = (whole.tar, drawn.reshape(len(draws), -1))
    figures: Figures = {}
    for at, far in enumerate([*near, *(far for far in fars if far not in near)]):
        figures |= _figures(far_key(far), found, at)
    return figures


def _figures(key: str, found: dict[str, tuple[dict[str, float], Weights]], at: int) -> Figures:
    def one(name: str) -> tuple[float, Weights]:
        whole, drawn = found[name]
        return whole[key], drawn[:, at] if at < drawn.shape[1] else np.full(len(drawn), np.nan)

    figures: dict[str, Estimate] = {}
    value, reference = one("float_tar")
    for name in found:
        its, drawn = one(name)
        figures[f"{name}@{key}"] = estimate(its, drawn)
        if name != "float_tar":
            figures[f"{name}_lost@{key}"] = estimate(value - its, reference - drawn)
    return figures


class _Best:
    """All genuine pairs and the impostor pairs with the best scores, best first."""

    def __init__(self, scores: Floats, same: npt.NDArray[np.bool_], owners: tuple[Owners, Owners], most: int) -> None:
        impostor = np.flatnonzero(~same)
        self.complete = len(impostor) <= most
        if not self.complete:
            impostor = impostor[np.argpartition(-scores[impostor], most)[:most]]
        impostor = impostor[np.argsort(-scores[impostor], kind="stable")]
        genuine = np.flatnonzero(same)
        genuine = genuine[np.argsort(-scores[genuine], kind="stable")]
        self.genuine, self.impostor = -scores[genuine], -scores[impostor]
        self.genuine_owner = owners[0][genuine]
        self.owners = owners[0][impostor], owners[1][impostor]
        # Pairs of one score are accepted together.
        self.ends = np.flatnonzero(np.append(self.impostor[1:] != self.impostor[:-1], True))

    def tar(self, fars: Sequence[float], counts: Weights, impostors: float) -> list[float]:
        """Return the share of genuine pairs accepted at the rate nearest to each, where person i counts so often."""
        reach = np.concatenate([[0.0], np.cumsum(_weigh(*self.owners, counts))[self.ends]])
        accepted = np.concatenate([[0.0], np.cumsum(counts[self.genuine_owner])])
        if not accepted[-1] or not impostors:
            return [np.nan] * len(fars)
        return [self._at(reach, accepted, far * impostors) / accepted[-1] for far in fars]

    def _at(self, reach: Weights, accepted: Weights, wanted: float) -> float:
        """Return what the genuine pairs weigh that are better than the first impostor that is one too many."""
        above = min(int(np.searchsorted(reach, wanted)), len(reach) - 1)
        nearest = reach[above] if reach[above] - wanted <= wanted - reach[max(above - 1, 0)] else reach[above - 1]
        following = int(np.searchsorted(reach, nearest, side="right"))
        if following == len(reach):
            return float(accepted[-1]) if self.complete else np.nan
        return float(accepted[np.searchsorted(self.genuine, self.impostor[self.ends[following - 1]], side="left")])


def _weigh(first: Owners, second: Owners, counts: Weights) -> Weights:
    weights: Weights = np.where(first == second, counts[first], counts[first] * counts[second])
    return weights


def _weigh_impostors(first: Owners, second: Owners, draws: Draws) -> Weights:
    """Return what all pairs weigh in each draw, [draws], from how many there are between each two people."""
    people, totals = draws.shape[1], np.zeros(len(draws))
    order = np.argsort(first, kind="stable")
    ordered, others = first[order], second[order]
    for low in range(0, people, _PEOPLE_AT_ONCE):
        high = min(low + _PEOPLE_AT_ONCE, people)
        here = slice(*np.searchsorted(ordered, (low, high)))
        cells = (ordered[here] - low) * people + others[here]
        pairs = np.bincount(cells, minlength=(high - low) * people).reshape(high - low, people).astype(np.float64)
        alone = pairs[np.arange(high - low), np.arange(low, high)].copy()
        pairs[np.arange(high - low), np.arange(low, high)] = 0.0
        totals += (draws[:, low:high] * (draws @ pairs.T)).sum(axis=1) + draws[:, low:high] @ alone
    return totals
