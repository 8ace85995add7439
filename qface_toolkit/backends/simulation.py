"""A simulation as a file: float weights, ranges and what they are, for schemes that no runtime here can hold.

It is opened in torch: our own models in the integer arithmetic of the target that they stand for, QuantFace's rule in
float. Its speed says nothing.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from qface_toolkit.backends._base import Backend, Content, Embed, Facts, ImageInput
from qface_toolkit.canonical.graph import operation
from qface_toolkit.errors import ArtifactError, CheckpointError, MeasurementError
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.model import QuantizedModel, description, restored
from qface_toolkit.quantize.simulated import (
    LARGEST_BYTES,
    QUANTFACE,
    QUANTIZED,
    file_bytes,
    is_simulation,
    read_simulation,
    read_spec,
    restored_simulation,
)
from qface_toolkit.quantize.target import ONNX, Target
from qface_toolkit.runtimes import SIMULATION
from qface_toolkit.runtimes.fusion import Fusion, Operator
from qface_toolkit.scoring.parity import Codes
from qface_toolkit.untrusted.reading import read_file


@dataclass(frozen=True)
class Simulation(Backend):
    """A state dict with the description of its model, which computes as `target` would."""

    runtime = SIMULATION
    machine = None
    narrow = True
    no_codes = "a simulation in torch is no program with codes inside"

    target: Target = ONNX
    artifact: str = "simulation.safetensors"
    engine: str = "torch"

    def lower(self, model: QuantizedModel, facts: Facts) -> bytes:
        """Return a safetensors file; what it is stands in its metadata."""
        told = {"kind": QUANTIZED, "facts": dict(facts), "target": self.target.name, "description": description(model)}
        return file_bytes(model.network.state_dict(), told)

    def reads(self, file: Path) -> bool:
        """Tell a simulation from a float checkpoint."""
        return is_simulation(file)

    def read(self, file: Path) -> Content:
        """Return a simulation of either kind, which holds all that there is to know of its model."""
        data = read_file(file, LARGEST_BYTES)
        spec = _spec(file, read_simulation(file, data)[0])
        return Content(data, hashlib.sha256(data).hexdigest(), {}, spec)

    def image_input(self, file: Path, content: Content) -> ImageInput:
        """Return what its model takes."""
        assert content.spec is not None
        return ImageInput(content.spec.input_size, channels=content.spec.channels)

    def open(self, file: Path, threads: int, content: Content | None = None) -> Embed:
        """Load a simulation of either kind; nothing of the file is run but operations of a closed list."""
        torch.set_num_threads(threads)
        return self._opened(file, content.data if content else None).embed

    def _opened(self, file: Path, data: bytes | None = None) -> "_Opened":
        told, tensors = read_simulation(file, data)
        return _kind(file, told).open(file, told, tensors, self.target)

    def codes(self, artifact: Path, model: QuantizedModel, inputs: npt.NDArray[np.float32]) -> Mapping[str, Codes]:
        """Raise MeasurementError: there is no runtime to look into."""
        raise MeasurementError(self.no_codes, where=str(artifact))

    def inspect(self, artifact: Path) -> Fusion:
        """Return the operations of the network; none of them runs on integers."""
        graph = self._opened(artifact).network.graph
        computing = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
        return Fusion(False, tuple(map(_operator, computing)), (), (), ())

    def version(self, content: Content | None = None) -> str:
        """Return torch and its version, which computes the simulation."""
        return f"torch {torch.__version__} ({self.runtime})"


def _operator(node: fx.Node) -> Operator:
    reads = tuple(source.name for source in node.all_input_nodes)
    return Operator(operation(node) or str(node.target), node.name, "float", reads, (node.name,))


def _spec(artifact: Path, told: Mapping[str, Any]) -> ModelSpec:
    try:
        return read_spec(_kind(artifact, told).spec(told))
    except (LookupError, TypeError, ValueError, AttributeError, CheckpointError) as error:
        what = "the simulation does not say how images are prepared"
        raise ArtifactError(what, where=str(artifact), fix="make it again with `qface compress`") from error


@dataclass(frozen=True)
class _Opened:
    """The network of a simulation, and what it computes."""

    network: fx.GraphModule
    embed: Embed


@dataclass(frozen=True)
class _Kind:
    """Where a kind of simulation holds the facts of its model, and how it is opened for a target."""

    spec: Callable[[Mapping[str, Any]], Any]
    open: Callable[[Path, dict[str, Any], dict[str, torch.Tensor], Target], _Opened]


def _of_rule(file: Path, told: dict[str, Any], tensors: dict[str, torch.Tensor], target: Target) -> _Opened:
    model = restored_simulation(told, tensors, file)
    return _Opened(model.network, model.embed)


def _of_model(file: Path, told: dict[str, Any], tensors: dict[str, torch.Tensor], target: Target) -> _Opened:
    """Open a model of ours, under the checks that a result's files undergo."""
    _spec(file, told)
    model = restored(told["description"], tensors, file)
    return _Opened(model.network, lambda images: embed_as_integers(model, target, images))


_KINDS: Mapping[object, _Kind] = {
    QUANTFACE: _Kind(lambda told: told["spec"], _of_rule),
    QUANTIZED: _Kind(lambda told: told["description"]["spec"], _of_model),
}


def _kind(file: Path, told: Mapping[str, Any]) -> _Kind:
    if (kind := str(told.get("kind"))) not in _KINDS:
        raise ArtifactError("this is no simulation of ours", where=str(file), fix="make it again")
    return _KINDS[kind]


ENTRIES = {"simulation": Simulation()}
