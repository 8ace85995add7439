"""What changes for whoever puts a compressed model in the float one's place: scores, thresholds and decisions.

Every figure comes with an interval over the people of the set, so that "nothing changes" is a statement with a bound.
All share their draws, also with the figures of `scoring.accuracy`, which are among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qface_toolkit.scoring.accuracy import Comparison, FaceSet, Figures, compare, draw_figures, estimates
from qface_toolkit.scoring.blocks import count_owned
from qface_toolkit.scoring.drift import ChangedPair, Drift, changed_pairs, genuine_drift, impostor_drift
from qface_toolkit.scoring.every_pair import supported
from qface_toolkit.scoring.joint import affordable, most_changed
from qface_toolkit.scoring.operating import FIELDS
from qface_toolkit.scoring.resampling import Draws, Estimate, estimate
from qface_toolkit.scoring.separation import FARS
from qface_toolkit.scoring.verification import Floats, far_key


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
    """A model beside its reference over `genuine` and `impostors` pairs; `at` is keyed by the false accept rate.

    `unsupported` are the rates for which there are too few impostors, `too_large` those whose pairs would fill the
    memory. `most_changed` lists pairs whose score changed most, genuine ones first. Rows are those of the embeddings.
    """

    images: int
    people: int
    genuine: int
    impostors: int
    figures: Figures
    genuine_drift: Drift
    impostor_drift: Drift
    at: dict[str, Operating]
    unsupported: tuple[str, ...]
    too_large: tuple[str, ...]
    most_changed: tuple[ChangedPair, ...]


def measure_paired(
    reference: Floats,
    other: Floats,
    faces: FaceSet,
    draws: Draws,
    fars: Sequence[float] = FARS,
    listed: int = 20,
) -> Paired:
    """Compare a model with its reference; embeddings [N, D] of the same images, `draws` [draws, people].

    At most `listed` pairs of each kind are listed.

    Raises:
        MeasurementError: if an embedding is zero or not finite, there are no genuine or no impostor pairs, or one
            person has too many images to draw people anew.
    """
    counts = count_owned(faces.owners[faces.compared])
    possible = supported(fars, counts.impostors)
    wanted = [far for far in possible if affordable(counts, far)]
    comparison = compare(reference, other, faces, draws, wanted, listed)
    sides = np.asarray(reference)[faces.compared], np.asarray(other)[faces.compared]
    return Paired(
        images=len(faces.compared),
        people=int((counts.images > 0).sum()),
        genuine=counts.genuine,
        impostors=counts.impostors,
        figures=estimates(draw_figures(comparison)),
        genuine_drift=genuine_drift(comparison.joint, draws),
        impostor_drift=impostor_drift(comparison.joint, sides, faces.owners[faces.compared], draws),
        at={far_key(far): _operating(comparison, at, listed) for at, far in enumerate(wanted)},
        unsupported=tuple(far_key(far) for far in fars if far not in possible),
        too_large=tuple(far_key(far) for far in possible if far not in wanted),
        most_changed=_most_changed(comparison, listed),
    )


def _operating(comparison: Comparison, at: int, listed: int) -> Operating:
    whole, drawn = comparison.whole[at], comparison.drawn[:, at]
    found = {name: estimate(whole[place], drawn[:, place]) for place, name in enumerate(FIELDS)}
    thresholds = whole[[FIELDS.index("float_threshold"), FIELDS.index("threshold")]]
    kinds = ("genuine_lost", "genuine_won", "impostor_lost", "impostor_won")
    own, kept = (Decisions(**{kind: found[f"{way}_{kind}"] for kind in kinds}) for way in ("own", "kept"))
    names = ("float_threshold", "threshold", "shift", "kept_far", "kept_tar")
    flipped = [
        pair
        for pairs, same in zip(comparison.judged.flipped(thresholds), (True, False), strict=True)
        for pair in changed_pairs(most_changed(pairs, listed), comparison.faces.compared, same=same)
    ]
    flipped.sort(key=lambda pair: -abs(pair.other - pair.reference))
    return Operating(**{name: found[name] for name in names}, own=own, kept=kept, flipped=tuple(flipped[:listed]))


def _most_changed(comparison: Comparison, listed: int) -> tuple[ChangedPair, ...]:
    rows, joint = comparison.faces.compared, comparison.joint
    genuine = most_changed(joint.genuine, listed)
    return changed_pairs(genuine, rows, same=True) + changed_pairs(joint.changed, rows, same=False)
