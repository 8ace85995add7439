"""A network that only simulates its quantization, and the file that holds it: a state dict and what it is, no code.

The file is made from QuantFace's rule, which no integer runtime can compute. Everything stands in it: weights,
BatchNorm, ranges, the network's structure and its preprocessing, so that it can be scored without its checkpoint.
"""

import copy
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save
from torch import fx, nn

from qface_toolkit.errors import ArtifactError, CheckpointError, UnsupportedModel
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.memory import channels_last
from qface_toolkit.quantize.model import embed
from qface_toolkit.quantize.quantface import open_ranges, with_grids
from qface_toolkit.quantize.structure import network_of
from qface_toolkit.untrusted.reading import open_file, read_file
from qface_toolkit.untrusted.weights import metadata_of, tensors_of

KEY = "qface.simulation"
"""The one key of the file's metadata; the order of several would change from run to run."""
QUANTFACE, QUANTIZED = "quantface", "quantized"
LARGEST_BYTES = 1 << 31
_MOST_NUMBERS, _MOST_OPERATIONS = 1 << 26, 10**12
"""Of one tensor, and of all layers for two images: twenty times those of iResNet100."""
_AGAIN = "make it again with `qface compress`"


@dataclass(frozen=True)
class SimulatedModel:
    """A network that rounds as QuantFace says, in eval mode; `structure` is that of the float network.

    `chosen` says in sentences what the recipe chose by itself, `trace` holds all that was tried on the way.
    """

    network: fx.GraphModule
    structure: list[dict[str, Any]]
    spec: ModelSpec
    weight_bits: int
    activation_bits: int
    chosen: tuple[str, ...] = ()
    trace: tuple[Mapping[str, Any], ...] = ()

    def embed(self, inputs: npt.NDArray[np.float32], batch_size: int = 8) -> npt.NDArray[np.float32]:
        """Return the embeddings, float32 [N, embedding], of inputs [N, C, height, width]."""
        return embed(self.network, inputs, batch_size)


def simulation_bytes(model: SimulatedModel, facts: Mapping[str, str]) -> bytes:
    """Return the file of a simulation."""
    told = {
        "kind": QUANTFACE,
        "facts": dict(facts),
        "spec": model.spec.as_plain(),
        "structure": model.structure,
        "weight_bits": model.weight_bits,
        "activation_bits": model.activation_bits,
        "chosen": model.chosen,
        "trace": [dict(one) for one in model.trace],
    }
    return file_bytes(model.network.state_dict(), told)


def file_bytes(tensors: Mapping[str, torch.Tensor], told: Mapping[str, Any]) -> bytes:
    """Return a safetensors file of these tensors that says this of itself."""
    contiguous = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    return save(contiguous, metadata={KEY: json.dumps(told, sort_keys=True, separators=(",", ":"))})


def read_simulation(path: Path, content: bytes | None = None) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return what a simulation's file says of itself, and its tensors. The file may come from anybody.

    `content` are its bytes if they were read already.

    Raises:
        ArtifactError: if it is missing, too large, damaged or no simulation.
    """
    data = read_file(path, LARGEST_BYTES) if content is None else content
    try:
        tensors, told = tensors_of(data), json.loads(metadata_of(io.BytesIO(data))[KEY])
        if not isinstance(told, dict):
            raise ValueError("no description")
    except (LookupError, ValueError, TypeError, RecursionError) as error:
        raise ArtifactError("this is no simulation of ours", where=str(path), fix=_AGAIN) from error
    return told, tensors


def is_simulation(path: Path) -> bool:
    """Tell whether a safetensors file is a simulation and no float checkpoint."""
    with open_file(path, LARGEST_BYTES) as file:
        try:
            return KEY in metadata_of(file)
        except ValueError:
            return False


def load_simulation(path: Path, content: bytes | None = None) -> SimulatedModel:
    """Read a simulation of QuantFace's rule back; nothing of the file is run but what is on a closed list.

    `content` are its bytes if they were read already.

    Raises:
        ArtifactError: if the file is damaged, of another kind, or does not fit its own description.
    """
    return restored_simulation(*read_simulation(path, content), path)


def restored_simulation(told: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], where: Path) -> SimulatedModel:
    """Return the same from what `read_simulation` found at a place.

    Raises:
        ArtifactError: as `load_simulation` does.
    """
    try:
        if told["kind"] != QUANTFACE:
            raise ValueError(f"it is of the kind {told['kind']!r}")
        spec, weights, activations = read_spec(told["spec"]), _bits(told["weight_bits"]), _bits(told["activation_bits"])
        network = with_grids(network_of(told["structure"]), weights, activations)
        network.load_state_dict({name: _finite(tensor) for name, tensor in tensors.items()}, strict=True, assign=True)
        channels_last(network.eval())
        open_ranges(network, opened=False)
        _check_runs(network, spec)
        trace, chosen = tuple(map(dict, told["trace"])), tuple(map(str, told["chosen"]))
    except _DAMAGE as error:
        what = f"the simulation is damaged: {str(error)[:200]}"
        raise ArtifactError(what, where=str(where), fix=_AGAIN) from error
    return SimulatedModel(network, told["structure"], spec, weights, activations, chosen, trace)


_DAMAGE = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    OSError,
    RecursionError,
    UnsupportedModel,
    ArtifactError,
    CheckpointError,
)
"""What building a network from a description raises that holds anything but what `simulation_bytes` writes."""


def read_spec(plain: dict[str, Any]) -> ModelSpec:
    """Return the facts of a model as `asdict` wrote them; a ValueError or TypeError tells of others."""
    facts: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()}
    spec = ModelSpec(**facts)
    finite = all(map(math.isfinite, (*spec.mean, *spec.std)))
    if not finite or min(spec.std) <= 0 or not isinstance(spec.name, str):
        raise ValueError(f"images prepared by {spec.mean}, {spec.std}, {spec.color}"[:200])
    return spec


def _bits(value: object) -> int:
    if not isinstance(value, int) or not 2 <= value <= 8:
        raise ValueError(f"{value!r} bits")
    return value


def _finite(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_floating_point() and not (tensor.dtype is torch.float32 and bool(torch.isfinite(tensor).all())):
        raise ValueError("weights that are no finite float32 numbers")
    return tensor


class _Sizes(fx.Interpreter):
    """Runs a network on tensors without memory and refuses those that would be too large, and too much work."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.operations = 0

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - as torch declares it
        """Run a node."""
        value = super().run_node(n)
        if isinstance(value, torch.Tensor) and value.numel() > _MOST_NUMBERS:
            raise ValueError(f"{n.name} would hold {value.numel()} numbers")
        layer = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
        each = layer.weight[0].numel() if isinstance(layer, nn.Conv2d | nn.Linear) else 1
        self.operations += value.numel() * each if isinstance(value, torch.Tensor) else 0
        if self.operations > _MOST_OPERATIONS:
            raise ValueError(f"two images would take more than {_MOST_OPERATIONS:.0e} operations")
        return value


def _check_runs(network: fx.GraphModule, spec: ModelSpec) -> None:
    """Check that a network runs on its input size and returns embeddings of the size its facts say."""
    probe = torch.zeros(2, *spec.input_shape, device="meta")
    with torch.no_grad():
        _Sizes(_without_memory(network)).run(probe)
        found = network(torch.zeros(2, *spec.input_shape))
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != (2, spec.embedding_size):
        raise ValueError(f"the network does not return embeddings of {spec.embedding_size} numbers")


def _without_memory(network: fx.GraphModule) -> fx.GraphModule:
    """Return a copy of a network whose weights have shapes and no numbers."""
    return copy.deepcopy(network).to("meta")
