"""Whether something became slower, on a machine that is busy with other things too.

Compared is the time of the int8 file divided by that of the float model in the same round: what slows the machine down
slows both. The interval of the median of these ratios comes from a moving-block bootstrap (Künsch, Annals of
Statistics 17, 1989): neighbouring rounds share their disturbance, so that single rounds must not be drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
FEWEST_ROUNDS = 10
DRAWS = 2000
CONFIDENCE = 0.99
BLOCK_ROUNDS = 10


@dataclass(frozen=True)
class Interval:
    """A figure and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Ratio:
    """The median over rounds of a time ratio, as a logarithm, and the same of resampled rounds."""

    log: float
    drawn: Floats

    @property
    def interval(self) -> Interval:
        """The ratio itself and its interval."""
        return _interval(self.log, self.drawn)

    @property
    def half_width(self) -> float:
        """Half of the interval's width, as a share of the ratio."""
        found = self.interval
        return (found.high - found.low) / 2 / found.value


def time_ratio(samples_ms: Sequence[float], reference_ms: Sequence[float], seed: int = 0) -> Ratio | None:
    """Return the ratio of two calls' times, of which samples of the same index come from the same round.

    None if there are fewer than FEWEST_ROUNDS rounds, or the two were not measured together.
    """
    if len(samples_ms) != len(reference_ms) or len(samples_ms) < FEWEST_ROUNDS:
        return None
    logs = np.log(np.divide(samples_ms, reference_ms))
    return Ratio(float(np.median(logs)), _resampled(logs, seed))


def growth(now: Ratio, before: Ratio) -> Interval:
    """Return by what share a ratio grew from one run to another, with the interval of that."""
    # Runs of the same length are drawn at the same places: in another order their draws are independent.
    other = np.random.default_rng(1).permutation(before.drawn)
    found = _interval(now.log - before.log, now.drawn - other)
    return Interval(found.value - 1, found.low - 1, found.high - 1)


def _resampled(logs: Floats, seed: int) -> Floats:
    """Return the medians of as many rounds as there are, drawn in blocks of neighbours."""
    rounds = len(logs)
    block = min(BLOCK_ROUNDS, max(1, rounds // 5))
    blocks = -(-rounds // block)
    starts = np.random.default_rng(seed).integers(0, rounds - block + 1, size=(DRAWS, blocks))
    places = (starts[:, :, None] + np.arange(block)).reshape(DRAWS, -1)[:, :rounds]
    medians: Floats = np.median(logs[places], axis=1)
    return medians


def _interval(log: float, drawn: Floats) -> Interval:
    low, high = np.quantile(drawn, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Interval(float(np.exp(log)), float(np.exp(low)), float(np.exp(high)))
