"""A simulation as a file: float weights, ranges and what they are, for schemes that no runtime here can hold.

It is opened in torch: our own models in the integer arithmetic of the target that they stand for, QuantFace's rule in
float. Its speed says nothing.
"""

import hashlib
from collections.abc import Mapping
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
    load_simulation,
    read_simulation,
    read_spec,
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
        return ImageInput(content.spec.input_size)

    def open(self, file: Path, threads: int, content: Content | None = None) -> Embed:
        """Load a simulation of either kind; nothing of the file is run but operations of a closed list."""
        torch.set_num_threads(threads)
        data = content.data if content else None
        told, tensors = read_simulation(file, data)
        if told.get("kind") == QUANTFACE:
            return load_simulation(file, data).embed
        model = _quantized(file, told, tensors)

        def embed(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            return embed_as_integers(model, self.target, images)

        return embed

    def codes(self, artifact: Path, model: QuantizedModel, inputs: npt.NDArray[np.float32]) -> Mapping[str, Codes]:
        """Raise MeasurementError: there is no runtime to look into."""
        raise MeasurementError(self.no_codes, where=str(artifact))

    def inspect(self, artifact: Path) -> Fusion:
        """Return the operations of the network; none of them runs on integers."""
        told, tensors = read_simulation(artifact)
        ours = told.get("kind") != QUANTFACE
        network = _quantized(artifact, told, tensors).network if ours else load_simulation(artifact).network
        computing = [node for node in network.graph.nodes if node.op not in ("placeholder", "output")]
        return Fusion(False, tuple(map(_operator, computing)), (), (), ())

    def version(self, content: Content | None = None) -> str:
        """Return torch and its version, which computes the simulation."""
        return f"torch {torch.__version__} ({self.runtime})"


def _operator(node: fx.Node) -> Operator:
    reads = tuple(source.name for source in node.all_input_nodes)
    return Operator(operation(node) or str(node.target), node.name, "float", reads, (node.name,))


def _spec(artifact: Path, told: Mapping[str, Any]) -> ModelSpec:
    try:
        return read_spec(told["spec"] if told["kind"] == QUANTFACE else told["description"]["spec"])
    except (LookupError, TypeError, ValueError, AttributeError, CheckpointError) as error:
        what = "the simulation does not say how images are prepared"
        raise ArtifactError(what, where=str(artifact), fix="make it again with `qface compress`") from error


def _quantized(artifact: Path, told: Mapping[str, Any], tensors: dict[str, torch.Tensor]) -> QuantizedModel:
    """Return our own model from a simulation, under the checks that a result's files undergo."""
    if told.get("kind") != QUANTIZED or not isinstance(told.get("description"), dict):
        raise ArtifactError("this is no simulation of ours", where=str(artifact), fix="make it again")
    _spec(artifact, told)
    return restored(told["description"], tensors, artifact)


ENTRIES = {"simulation": Simulation()}
