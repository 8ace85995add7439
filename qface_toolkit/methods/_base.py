"""What a method is: a step of a recipe, with options of its own, that says what it needs, gives and asks for."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel
from torch import fx

from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.simulated import SimulatedModel
from qface_toolkit.quantize.target import Target

Inputs = npt.NDArray[np.float32]
"""Preprocessed calibration images, float32 [N, C, height, width]."""

Progress = Callable[[int, int], None]
"""Called with (work done, work in all) so that somebody can draw a bar."""

Need = Literal["images", "crops", "ranges", "mixing", "packing", "budget", "less", "times", "source"]
"""What must be there before a step: calibration images; those as they came, before preprocessing; ranges in the model;
a first backend that can keep layers in float; one that packs weights below eight bits; a budget, of bytes or cosines or
of what is to be left of a network, which no step finds without being told one; a first backend whose times are known;
and the float model as it came, BatchNorm and all."""

Gift = Literal["narrowed", "ranges", "widths", "kept", "mended", "simulation"]
"""What a step makes of a model: fewer channels, ranges, widths of its own for each layer, layers that are kept in
float, as few of them as a damaged model needs; or a simulation in its place, which no backend lowers.

A recipe's budget sets the options `macs` and `ms_share` of what narrows, `bytes` and `cosine_mean` of what gives
widths, the latter of what keeps layers, and its floor that of what mends."""

Model = QuantizedModel | SimulatedModel
"""What a step leaves: a model for the next one and for backends, or a simulation."""

Service = TypeVar("Service")


@dataclass(frozen=True)
class Context:
    """What every method is given beside the model: data, the target to simulate, a seed and somebody to tell.

    `services` are what the method asks for, see `_services`, as far as there are any here.
    """

    inputs: Inputs
    target: Target
    seed: int
    batch_size: int
    progress: Progress
    services: tuple[object, ...] = ()

    def service(self, kind: type[Service]) -> Service | None:
        """Return the service of this kind; None if nobody offers it here."""
        return next((one for one in self.services if isinstance(one, kind)), None)


class Method(ABC):
    """One kind of step: what a file of this folder puts into `ENTRIES`.

    A model has what earlier steps of the recipe gave it, unless one in between takes it away.
    """

    options: type[BaseModel]
    needs: ClassVar[tuple[Need, ...]] = ()
    gives: ClassVar[tuple[Gift, ...]] = ()
    takes: ClassVar[tuple[Gift, ...]] = ()
    asks: ClassVar[tuple[type[object], ...]] = ()
    """Services that its context shall hold."""

    def needed(self, options: Any) -> tuple[Need, ...]:  # noqa: ANN401 - the method's own
        """Return what must be there for these options; the first that is not is told."""
        return self.needs

    def check(self, options: Any, network: fx.GraphModule) -> None:  # noqa: ANN401 - the method's own
        """Refuse what cannot be had of a canonical network, before any work.

        Raises:
            RecipeError: with what can be had.
        """
        return

    @abstractmethod
    def run(self, model: QuantizedModel, options: Any, context: Context) -> Model:  # noqa: ANN401 - its own
        """Return the model after the step; the one given is left alone."""

    @abstractmethod
    def passes(self, options: Any, images: int) -> float:  # noqa: ANN401 - the method's own
        """Return how many passes of one image through the network the step is worth, for so many images.

        A backward pass counts as two.
        """
