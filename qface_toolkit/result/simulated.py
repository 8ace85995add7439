"""A model that only simulates, as a job's files and evidence ask for it: its file is all there is of it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qface_toolkit.analysis.sensitivity import Sensitivity
from qface_toolkit.backends import BACKENDS, Backend
from qface_toolkit.errors import MeasurementError
from qface_toolkit.quantize.quantface import rounded_layers
from qface_toolkit.quantize.simulated import SimulatedModel, load_simulation, simulation_bytes
from qface_toolkit.quantize.target import Target
from qface_toolkit.result.made import FLOAT_BITS, Arrays, Coded, Files, Floats, Made
from qface_toolkit.scoring.parity import CodeDifference, TensorAgreement
from qface_toolkit.sources import Crop
from qface_toolkit.verifier import About, about

TRACE = "trace.json"
"""What a step that chooses among several runs leaves: each that it tried, and how near it came."""


@dataclass(frozen=True)
class Simulated(Made):
    """A SimulatedModel as its file holds it; see Made."""

    model: SimulatedModel
    facts: Mapping[str, str]

    @classmethod
    def of(cls, model: SimulatedModel, facts: Mapping[str, str]) -> "Simulated":
        """Return what the file of a model would hold, so that what is measured is what it gives."""
        read = load_simulation(Path(_artifact()), simulation_bytes(model, facts))
        # The file sorts the keys of what was tried; trace.json tells it in the order of the step.
        return cls(replace(read, trace=model.trace), facts)

    @property
    def chosen(self) -> tuple[str, ...]:
        """What was chosen among the runs."""
        return self.model.chosen

    def keeping(self, count: int) -> "Simulated":
        """Return the same: there are no layers to choose."""
        return self

    def step_files(self, number: int) -> Files:
        """Return the file, and all that was tried."""
        trace = json.dumps([dict(one) for one in self.model.trace], indent=1) + "\n"
        return {TRACE: trace.encode(), _artifact(): simulation_bytes(self.model, self.facts)}

    @classmethod
    def read(cls, number: int, path: Callable[[str], Path], facts: Mapping[str, str]) -> "Simulated":
        """Read the file again."""
        return cls(load_simulation(path(_artifact())), facts)

    def source_files(self) -> Files:
        """Return nothing: nothing can be lowered from it."""
        return {}

    def artifacts(self, backends: Sequence[str]) -> Iterator[tuple[str, Callable[[], bytes]]]:
        """Yield nothing: its step wrote the file."""
        yield from ()

    def golden(self, backend: Backend, inputs: Floats) -> Arrays:
        """Return what it makes of inputs itself, in float."""
        known = About(backend.runtime.name)
        return {backend.artifact: self.model.embed(inputs), about(backend.artifact): known.stored()}

    def simulated(self, target: Target, inputs: Floats) -> None:
        """Return None: the file is the simulation."""

    def parameters(self, target: Target | None) -> Sequence[tuple[int, int]]:
        """Return all of them, BatchNorm's too, at the width of the weights, as papers count this rule."""
        count = sum(parameter.numel() for parameter in self.model.network.parameters())
        return [(count, FLOAT_BITS if target is None else self.model.weight_bits)]

    def coded(self, target: Target) -> tuple[Sequence[Coded], int]:
        """Return weights and slopes; BatchNorm, biases and ranges stay float32."""
        network, coded = self.model.network, list[Coded]()
        for layer in rounded_layers(network):
            weight = layer.layer.weight
            coded.append(Coded(weight.numel(), layer.bits, len(weight) if weight.dim() > 1 else 1, zero_points=True))
        numbers = sum(tensor.numel() for tensor in network.state_dict().values() if tensor.is_floating_point())
        return coded, numbers - sum(one.numbers for one in coded)

    def layer_names(self, backend: Backend) -> None:
        """Return None: the file is no program with layers in it."""

    def tensors(self, target: Target, inputs: Floats) -> tuple[TensorAgreement, ...]:
        """Return nothing: no tensor of it is codes."""
        return ()

    def differing_codes(self, backend: Backend, artifact: Path, inputs: Floats) -> tuple[CodeDifference, ...]:
        """Raise MeasurementError with what the backend says of its files."""
        raise MeasurementError(backend.no_codes or "the model is only simulated", where=str(artifact))

    def sensitivity(
        self, target: Target, crops: Crop, images: tuple[int, int], multiply_adds: float
    ) -> Sensitivity | None:
        """Return None: its roundings belong to its layers and cannot be left out."""
        return None


def _artifact() -> str:
    """Return the name of the file of a simulation."""
    return next(one.artifact for one in BACKENDS.entries().values() if one.runtime.simulates)
