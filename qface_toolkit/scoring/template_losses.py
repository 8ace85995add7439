"""What a compressed model loses by the protocol of IJB, with intervals: its templates' scores beside the float model's.

Whose template is whose is known from the genuine pairs (`scoring.pair_list.people_of_pairs`); these people are drawn
anew. Millions of impostor pairs are too many for every draw: those with the best scores are kept, where the thresholds
are, and of the others only how many there are between each two people.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.accuracy import Figures
from qface_toolkit.scoring.blocks import Owners
from qface_toolkit.scoring.joint import MOST_KEPT, SPARE
from qface_toolkit.scoring.resampling import Draws, Estimate, estimate
from qface_toolkit.scoring.templates import FARS, tar_ijb
from qface_toolkit.scoring.verification import Floats, far_key

_PEOPLE_AT_ONCE = 512

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ListedScores:
    """Three scores of each listed pair of templates [pairs]: by the reference, by the other model, and by both.

    `mixed` has the reference's first template and the other's second one.
    """

    reference: Floats
    other: Floats
    mixed: Floats


def measure_template_losses(
    scores: ListedScores,
    same: npt.NDArray[np.bool_],
    owners: tuple[Owners, Owners],
    draws: Draws,
    fars: Sequence[float] = FARS,
) -> Figures:
    """Return TAR of each comparison and what is lost, named as in `scoring.accuracy`; `owners` are those of each pair.

    A figure is that of `templates.tar_ijb`; its draws take the nearest false positive rate of all there are. Of rates
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
