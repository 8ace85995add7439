"""What a job makes, whichever way: all that the files, the evidence and the pages of a result ask of a model.

Steps hand on one of two values. A QuantizedModel is lowered by backends and computes in integers there; a
SimulatedModel is a file by itself, and what it computes no integer file can. `result.lowered` and `result.simulated`
answer for them, and nothing else needs to know which of them a job makes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qface_toolkit.analysis.sensitivity import Sensitivity
from qface_toolkit.backends import Backend
from qface_toolkit.quantize.target import Target
from qface_toolkit.scoring.parity import CodeDifference, TensorAgreement
from qface_toolkit.sources import Crop
from qface_toolkit.times import TimeTable

Floats = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[np.generic]]
Files = Mapping[str, bytes]
"""The content of files by their names in the folder."""
FLOAT_BITS = 32


@dataclass(frozen=True)
class Coded:
    """A tensor of codes: how many, how wide, how many grids they lie on, and whether a grid has a zero point."""

    numbers: int
    bits: int
    grids: int
    zero_points: bool


class Made(ABC):
    """A model that a step made, with the facts that go into its files."""

    model: Any
    """The value that the next step is given."""

    @classmethod
    @abstractmethod
    def of(cls, model: Any, facts: Mapping[str, str]) -> "Made":  # noqa: ANN401 - either kind's own
        """Return the model that a step has just made."""

    @property
    def chosen(self) -> tuple[str, ...]:
        """What a step chose among several that it tried, in sentences."""
        return ()

    @property
    def choices(self) -> Mapping[str, int]:
        """The options that a clock decided, as `method.option`."""
        return {}

    @property
    def kept(self) -> tuple[str, ...]:
        """The layers that it keeps in float, those first that gain most."""
        return ()

    @abstractmethod
    def keeping(self, count: int) -> "Made":
        """Return the same that keeps only the first so many of these layers."""

    @abstractmethod
    def step_files(self, number: int) -> Files:
        """Return what a stopped job finds it in again behind this step."""

    @classmethod
    @abstractmethod
    def read(cls, number: int, path: Callable[[str], Path], facts: Mapping[str, str]) -> "Made":
        """Return what a stopped job left behind this step; `path` tells where a file stands."""

    @abstractmethod
    def source_files(self) -> Files:
        """Return what a finished folder can be lowered from again."""

    @abstractmethod
    def artifacts(self, backends: Sequence[str]) -> Iterator[tuple[str, Callable[[], bytes]]]:
        """Yield the files that are still to be written for backends, and what makes each of them."""

    @abstractmethod
    def golden(self, backend: Backend, inputs: Floats) -> Arrays:
        """Return what a backend's artifact must make of inputs [N, C, height, width], by the artifact's name.

        That is so on the kind of processor that it is made for; what it makes on the other, where the runtime rounds
        otherwise there, and what is inside it stand behind the names that `verifier` gives. Where the artifact takes
        pixels, "image" holds those of the inputs, uint8 [N, height, width, 3].
        """

    @abstractmethod
    def simulated(self, target: Target, inputs: Floats) -> Floats | None:
        """Return the embeddings that a simulation apart from the file makes; None where the file is the simulation."""

    @abstractmethod
    def parameters(self, target: Target | None) -> Sequence[tuple[int, int]]:
        """Return how many parameters have how many bits in a target; without one, in float."""

    @abstractmethod
    def coded(self, target: Target) -> tuple[Sequence[Coded], int]:
        """Return the tensors that are codes in a target, and how many other numbers go with them."""

    @abstractmethod
    def layer_names(self, backend: Backend) -> Mapping[str, str] | None:
        """Return which tensor of a backend's file ends which layer; None where its cost has no such parts."""

    def predicted(self, backend: Backend, times: TimeTable) -> Mapping[str, float] | None:
        """Return the microseconds that each layer of a backend's file should take; None where nobody knows."""
        return None

    @abstractmethod
    def tensors(self, target: Target, inputs: Floats) -> tuple[TensorAgreement, ...]:
        """Compare each tensor that a target holds as codes, and the embedding, with what the float network makes."""

    @abstractmethod
    def differing_codes(self, backend: Backend, artifact: Path, inputs: Floats) -> tuple[CodeDifference, ...]:
        """Compare the codes inside an artifact with its simulation's.

        Raises:
            MeasurementError: if there are none, or they cannot be had.
        """

    @abstractmethod
    def sensitivity(
        self, target: Target, crops: Crop, images: tuple[int, int], multiply_adds: float
    ) -> Sensitivity | None:
        """Return what each quantizer of a target costs, on as many of the crops as so many multiply-adds allow.

        `images` are how many at least and at most; None where even the fewest take more, or nothing can be switched.
        """
