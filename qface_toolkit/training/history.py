"""What a training tells of itself as it goes: plain values, which a state holds as JSON and a report is made of."""

from dataclasses import dataclass, field
from typing import Any

from qface_toolkit.training.state import Tree


@dataclass
class Sums:
    """What was seen since the last point of the curves."""

    count: int = 0
    loss: float = 0.0
    gradient: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)

    def add(self, loss: float, gradient: float, parts: dict[str, float]) -> None:
        """Add a step."""
        self.count, self.loss, self.gradient = self.count + 1, self.loss + loss, self.gradient + gradient
        for name, value in parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + value


@dataclass
class History:
    """What a report tells of a training: plain values, which a state holds as JSON."""

    step: int = 0
    points: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)
    epoch_loss: float = 0.0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    resumed: int = 0

    def is_best(self, score: float | None, epoch: int, *, anew: bool) -> bool:
        """Tell whether an epoch, counted from 0, is the best so far, and remember it; `anew`, of those from it on."""
        if score is None or not (anew or self.best is None or score > self.best):
            return False
        self.best, self.best_epoch = score, epoch + 1
        return True

    @classmethod
    def of(cls, values: Tree) -> "History":
        """Return what a state holds."""
        return cls(**{**values, "sums": Sums(**values["sums"])})
