"""What every peer is given and gives back, so that the table's rows are made in one way."""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qface_toolkit.models import FloatModel

Crops = npt.NDArray[np.uint8]
"""Aligned RGB crops, uint8 [N, 112, 112, 3]."""

Images = Literal["none", "drawings", "faces"]


@dataclass(frozen=True)
class Effort:
    """How much may be spent: images to calibrate on, our recipes, and the grid of the distilled reference.

    `steps` are the numbers of steps after which a run of the grid is looked at, `rates` its learning rates.
    """

    calibration: int
    recipes: tuple[str, ...]
    steps: tuple[int, ...]
    rates: tuple[float, ...]
    batch: int
    pool: int

    def fingerprint(self) -> str:
        """Return a short name for everything here that a made file depends on."""
        return sha256(repr((self.calibration, self.steps, self.rates, self.batch, self.pool)).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Materials:
    """What a contender is made from: the float model, its file, and images to calibrate on.

    `work` is a folder that all contenders of a model share, `threads` what making may use.
    """

    model: FloatModel
    float_file: Path
    crops: Crops
    work: Path
    effort: Effort
    threads: int


@dataclass(frozen=True)
class Made:
    """What came out: files, of which the first is opened in `runtime`.

    `seconds` replace the clock's where making also measured. A `simulation` is a float program that rounds as the
    method says: it has accuracy, but no size and no speed. `trace` is what was tried on the way.
    """

    files: tuple[Path, ...]
    runtime: str
    seconds: float | None = None
    simulation: bool = False
    trace: list[dict[str, Any]] = field(default_factory=list)


Make = Callable[[Materials, Path], Made]
"""Makes one contender in a folder of its own."""


@dataclass(frozen=True)
class Peer:
    """One row of the table: who makes it, from which images, and how; `by` names the tool."""

    name: str
    by: str
    images: Images
    make: Make
