"""What changes for whoever puts a compressed model in the float one's place: scores, thresholds and decisions.

Every figure comes with an interval over the people of the set, so that "nothing changes" is a statement with a bound.
All share their draws.
"""

from dataclasses import dataclass

import numpy as np

from qface_toolkit.scoring.both_models import ScoredPairs, most_changed
from qface_toolkit.scoring.compare import Comparison
from qface_toolkit.scoring.drawn import FIELDS
from qface_toolkit.scoring.drift import ChangedPair, Drift, changed_pairs, genuine_drift, impostor_drift
from qface_toolkit.scoring.rates import far_key
from qface_toolkit.scoring.resampling import Estimate, Figures, estimate, estimates


@dataclass(frozen=True)
class Decisions:
    """Shares of genuine pairs and of impostor pairs of which the other model decides differently.

    `lost` were accepted by the reference and are rejected by the other; `won` the other way round.
    """

    genuine_lost: Estimate
    genuine_won: Estimate
    impostor_lost: Estimate
    impostor_won: Estimate


@dataclass(frozen=True)
class Operating:
    """What becomes of one false accept rate: thresholds (cosines), and what follows from the choice of one.

    `threshold` is the other model's own, and what it should be run with; `shift` is how much higher it is than the
    reference's. `kept_far` and `kept_tar` are what the other model does at the reference's threshold. Decisions are
    compared with the reference's at its threshold: the other at its `own`, and with the reference's `kept`. `flipped`
    lists pairs that are decided differently at own thresholds, those whose score changed most first.
    """

    float_threshold: Estimate
    threshold: Estimate
    shift: Estimate
    kept_far: Estimate
    kept_tar: Estimate
    own: Decisions
    kept: Decisions
    flipped: tuple[ChangedPair, ...]


@dataclass(frozen=True)
class Paired:
    """A model beside its reference; `figures` are those of `compare.Comparison.samples`, `at` is keyed by the FAR.

    `most_changed` lists pairs whose score changed most, genuine ones first. Rows are those of the embeddings.
    """

    figures: Figures
    genuine_drift: Drift
    impostor_drift: Drift
    at: dict[str, Operating]
    most_changed: tuple[ChangedPair, ...]


def measure_paired(comparison: Comparison, listed: int = 20) -> Paired:
    """Say what changes from one model to the other; at most `listed` pairs of each kind are listed."""
    genuine = most_changed(comparison.genuine, listed)
    return Paired(
        figures=estimates(comparison.samples),
        genuine_drift=genuine_drift(comparison),
        impostor_drift=impostor_drift(comparison),
        at={far_key(far): _operating(comparison, at, listed) for at, far in enumerate(comparison.fars)},
        most_changed=changed_pairs(genuine, same=True) + changed_pairs(comparison.changed, same=False),
    )


def _operating(comparison: Comparison, at: int, listed: int) -> Operating:
    whole, drawn = (figures[..., at, :] for figures in comparison.judged)
    found = {name: estimate(whole[place], drawn[:, place]) for place, name in enumerate(FIELDS)}
    kinds = ("genuine_lost", "genuine_won", "impostor_lost", "impostor_won")
    own, kept = (Decisions(**{kind: found[f"{way}_{kind}"] for kind in kinds}) for way in ("own", "kept"))
    names = ("float_threshold", "threshold", "shift", "kept_far", "kept_tar")
    thresholds = found["float_threshold"].value, found["threshold"].value
    flipped = [
        pair
        for pairs, same in ((comparison.genuine, True), (comparison.impostor, False))
        for pair in changed_pairs(most_changed(_flipped(pairs, thresholds), listed), same=same)
    ]
    flipped.sort(key=lambda pair: -abs(pair.other - pair.reference))
    return Operating(**{name: found[name] for name in names}, own=own, kept=kept, flipped=tuple(flipped[:listed]))


def _flipped(pairs: ScoredPairs, thresholds: tuple[float, float]) -> ScoredPairs:
    """Return the pairs that the models decide differently, each at its own threshold."""
    accepted = [scores >= threshold for scores, threshold in zip(pairs.scores, thresholds, strict=True)]
    return pairs.at(np.flatnonzero(accepted[0] != accepted[1]))
