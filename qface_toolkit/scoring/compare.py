"""Two models on the same images, every pair scored by both: all that later figures need, gathered in two looks.

The first look counts, so that the second knows which scores it must keep: those of the bins in which thresholds lie,
and the best impostors of either model and of both crosswise. Everything else follows from what is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from qface_toolkit.scoring.agreement import row_cosines
from qface_toolkit.scoring.blocks import EveryPair, PairCounts, Progress
from qface_toolkit.scoring.both_models import (
    Changes,
    Crosswise,
    ScoredPairs,
    Strangers,
    affordable,
    refuse_too_many,
)
from qface_toolkit.scoring.drawn import FIELDS, DrawnPeople, Figures, drawn_tar, joint_figures
from qface_toolkit.scoring.embeddings import Floats, Owners
from qface_toolkit.scoring.rates import FARS, far_key, supported
from qface_toolkit.scoring.resampling import Draws, Samples, cosine_figures, worst_person
from qface_toolkit.scoring.separation import Separation, Spread


@dataclass(frozen=True)
class Comparison:
    """What is known of every pair's scores by a reference and by another model, embeddings [N, D] of the same images.

    `fars` are those compared, `unsupported` those for which there are too few impostors, `too_large` those whose pairs
    would fill the memory. `alone` is what each model makes of the set by itself. `impostor` holds all impostor pairs
    whose score is at least the model's own of the `floors`; for `drift` and `changed` see `both_models.Changes`.
    `mixed` are genuine pairs, and impostor pairs with the best scores, of one image by the reference and one by the
    other, in both orders.
    """

    reference: Floats
    other: Floats
    owners: Owners
    draws: Draws
    counts: PairCounts
    fars: tuple[float, ...]
    unsupported: tuple[str, ...]
    too_large: tuple[str, ...]
    alone: tuple[Separation, Separation]
    genuine: ScoredPairs
    impostor: ScoredPairs
    floors: tuple[float, float]
    drift: Figures
    drift_std: float
    changed: ScoredPairs
    mixed: tuple[ScoredPairs, ScoredPairs]

    @cached_property
    def judged(self) -> tuple[Figures, Figures]:
        """Return `drawn.FIELDS` of the set, [rates, fields], and of each draw of its people, [draws, rates, fields]."""
        found = joint_figures(self.genuine, self.impostor, self.floors, self._draws, self.fars)
        return found[0], found[1:]

    @cached_property
    def samples(self) -> Samples:
        """Return the figures by name, each with that of every draw.

        `tar` is the other's, `float_tar` the reference's; `mixed_tar` has the reference's embeddings in the gallery
        and the other's as probes, over every ordered pair. What is `lost` is the reference's rate less the other's.
        Thresholds are each comparison's own, and are found anew in each draw.
        """
        whole, drawn = self.judged
        rates = {name: (whole[:, at], drawn[:, :, at]) for name in ("float_tar", "tar") for at in [FIELDS.index(name)]}
        mixed = drawn_tar(*self.mixed, self._draws, self.fars)
        rates["mixed_tar"] = mixed[0], mixed[1:]
        sides = (self.reference, self.other)
        found = cosine_figures(sides, self.owners, self.draws)
        found["cosine_worst_person"] = worst_person(row_cosines(*sides), self.owners, self.draws)
        before = rates["float_tar"]
        for name, (whole, drawn) in rates.items():
            found |= self._named(name, whole, drawn)
            if name != "float_tar":
                found |= self._named(f"{name}_lost", before[0] - whole, before[1] - drawn)
        return found

    @property
    def _draws(self) -> DrawnPeople:
        """Return all draws, and everybody once before them."""
        return DrawnPeople(np.concatenate([np.ones((1, self.draws.shape[1])), self.draws]), self.owners, self.counts)

    def _named(self, name: str, whole: Figures, drawn: Figures) -> Samples:
        return {f"{name}@{far_key(far)}": (float(whole[at]), drawn[:, at]) for at, far in enumerate(self.fars)}


def compare_models(
    reference: Floats,
    other: Floats,
    owners: npt.ArrayLike,
    draws: Draws,
    fars: Sequence[float] = FARS,
    *,
    listed: int = 20,
    progress: Progress | None = None,
) -> Comparison:
    """Score every two images by two models; embeddings [N, D], `owners` whole numbers [N], `draws` [draws, people].

    At most `listed` impostor pairs that changed most are kept.

    Raises:
        MeasurementError: if an embedding is zero or not finite, there are no pairs of both kinds, or one person has too
            many images to draw people anew.
    """
    pairs = EveryPair((reference, other), owners, progress)
    refuse_too_many(pairs.counts)
    possible = supported(fars, pairs.counts.impostors)
    wanted = tuple(far for far in possible if affordable(pairs.counts, far))
    spreads, changes = [Spread(pairs, fars) for _ in pairs.models], Changes(pairs, listed)
    strangers, crosswise = _looked_twice(pairs, spreads, changes, wanted)
    first, second = (spread.separation() for spread in spreads)
    return Comparison(
        reference=reference,
        other=other,
        owners=np.asarray(owners, dtype=np.intp),
        draws=draws,
        counts=pairs.counts,
        fars=wanted,
        unsupported=tuple(far_key(far) for far in fars if far not in possible),
        too_large=tuple(far_key(far) for far in possible if far not in wanted),
        alone=(first, second),
        genuine=changes.genuine,
        impostor=strangers.kept,
        floors=strangers.floors,
        drift=changes.drift,
        drift_std=changes.drift_std,
        changed=changes.changed,
        mixed=(crosswise.genuine, crosswise.impostor),
    )


def _looked_twice(
    pairs: EveryPair, spreads: Sequence[Spread], changes: Changes, wanted: Sequence[float]
) -> tuple[Strangers, Crosswise]:
    """Show every pair's scores to all that collect them, and once more to those that know by then what to keep."""
    for block, (before, after) in pairs.look():
        for spread, scores in zip(spreads, (before, after), strict=True):
            spread.look(block, scores)
        changes.look(block, (before, after))
    for spread in spreads:
        spread.settle()
    strangers, crosswise = Strangers(pairs, spreads, wanted), Crosswise(pairs, wanted)
    for block, (before, after) in pairs.look():
        for spread, scores in zip(spreads, (before, after), strict=True):
            spread.look_closely(block, scores)
        strangers.look(block, (before, after))
        crosswise.look(block)
    return strangers, crosswise
