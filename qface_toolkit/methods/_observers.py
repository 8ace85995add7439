"""Ways to choose a tensor's range from what was seen of it."""

from collections.abc import Callable
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch

from qface_toolkit.errors import CalibrationError
from qface_toolkit.quantize.scheme import Range


class Observer(Protocol):
    """Watches one range, which has so many levels, over `passes` passes through the same images."""

    passes: ClassVar[int]

    def __init__(self, bins: int, percentile: float, levels: int) -> None: ...

    def passes_over(self, number: int) -> Callable[[torch.Tensor], None]:
        """Return what to show every tensor of the range to in this pass."""
        ...

    def range(self) -> Range:
        """Return the range to quantize over."""
        ...


class MinMax:
    """Everything that was seen, and zero."""

    passes: ClassVar[int] = 1

    def __init__(self, bins: int, percentile: float, levels: int) -> None:
        self.levels = levels
        self.low = 0.0
        self.high = 0.0

    def passes_over(self, number: int) -> Callable[[torch.Tensor], None]:
        """Return the widening of the limits."""
        return self.widen

    def widen(self, tensor: torch.Tensor) -> None:
        """Widen the limits to hold a tensor."""
        low, high = (float(value) for value in torch.aminmax(tensor))
        if not (np.isfinite(low) and np.isfinite(high)):
            raise CalibrationError(
                "an activation is infinite or not a number", fix="check model.mean, model.std and the weights"
            )
        self.low, self.high = min(self.low, low), max(self.high, high)

    def range(self) -> Range:
        """Return the limits."""
        return Range(self.low, self.high)


class Histogram(MinMax):
    """Counts the values between the limits, for a range inside them.

    Few values lie far out, and making room for them costs all others resolution.
    """

    passes: ClassVar[int] = 2

    def __init__(self, bins: int, percentile: float, levels: int) -> None:
        super().__init__(bins, percentile, levels)
        self.percentile = percentile
        self.counts = torch.zeros(bins)

    def passes_over(self, number: int) -> Callable[[torch.Tensor], None]:
        """Return the limits' widening first, then the counting."""
        return self.widen if number == 0 else self.count

    def count(self, tensor: torch.Tensor) -> None:
        """Add a tensor's values to the histogram between the limits."""
        if self.high > self.low:
            self.counts += torch.histc(tensor, len(self.counts), self.low, self.high)


class Percentile(Histogram):
    """What is left when the same share of the values is cut off at either end, and zero."""

    def range(self) -> Range:
        """Return the inner edges of the bins that are cut off."""
        if self.high <= self.low:
            return Range(self.low, self.high)
        shares = self.counts.double().cumsum(0) / self.counts.double().sum()
        cut = 1 - self.percentile / 100
        first, last = int((shares <= cut).sum()), int((shares < 1 - cut).sum())
        width = (self.high - self.low) / len(self.counts)
        return Range(min(0.0, self.low + first * width), max(0.0, self.low + (last + 1) * width))


class LeastSquares(Histogram):
    """The interval inside the limits with the least mean squared error of rounding and clipping together."""

    def range(self) -> Range:
        """Return the best interval of a grid: each end at 1.0, 0.98, ... of its limit."""
        if self.high <= self.low:
            return Range(self.low, self.high)
        counts = self.counts.numpy().astype(np.float64)
        width = (self.high - self.low) / len(counts)
        centres = np.asarray(self.low + (np.arange(len(counts)) + 0.5) * width, np.float64)
        low = self._best_end(counts, centres, lambda end: (end, self.high), self.low)
        high = self._best_end(counts, centres, lambda end: (low, end), self.high)
        low = self._best_end(counts, centres, lambda end: (end, high), self.low)
        return Range(low, high)

    def _best_end(
        self,
        counts: npt.NDArray[np.float64],
        centres: npt.NDArray[np.float64],
        limits: Callable[[float], tuple[float, float]],
        end: float,
    ) -> float:
        candidates = [end * share for share in np.linspace(1.0, 0.2, 81)]
        errors = [_squared_error(counts, centres, limits(candidate), self.levels) for candidate in candidates]
        return float(candidates[int(np.argmin(errors))])


def _squared_error(
    counts: npt.NDArray[np.float64], centres: npt.NDArray[np.float64], limits: tuple[float, float], levels: int
) -> float:
    """Return the summed squared error of quantizing a histogram over [low, high] in so many steps."""
    low, high = limits
    step = max((high - low) / levels, 1e-12)
    beyond = np.maximum(centres - high, 0.0) + np.maximum(low - centres, 0.0)
    # Inside the interval rounding errs by step^2 / 12 on average, whatever the histogram's own width.
    return float((counts * np.where(beyond > 0, beyond**2, step**2 / 12)).sum())


OBSERVERS: dict[str, type[MinMax]] = {"minmax": MinMax, "percentile": Percentile, "mse": LeastSquares}
