"""Recipes that simulate: their one step makes no QuantizedModel, and what follows from that for the rest of a job."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends.simulation import ARTIFACT, RUNTIME
from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.errors import ArtifactError, RecipeError
from qface_toolkit.measure.packing import Coded, packed_size
from qface_toolkit.measure.size import nominal_bytes
from qface_toolkit.methods import METHODS, Context
from qface_toolkit.models import FloatModel
from qface_toolkit.quantize.kept import LAYERS
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import Target
from qface_toolkit.quantize.quantface import rounded_layers
from qface_toolkit.quantize.simulated import SimulatedModel
from qface_toolkit.recipe import Recipe

Model = QuantizedModel | SimulatedModel
"""What a job makes: one that backends lower, or one that is only simulated."""

_FLOAT_BITS = 32
_DESCRIPTION = "quantization.json"
"""What every result has whose network can be lowered again."""


@runtime_checkable
class Simulates(Protocol):
    """A method whose result is a simulation and nothing else."""

    def simulate(self, source: FloatModel, options: Any, context: Context) -> SimulatedModel:  # noqa: ANN401 - its own
        """Return the simulation of a float model."""
        ...


def simulating(recipe: Recipe) -> bool:
    """Tell whether a recipe makes a simulation."""
    return any(isinstance(METHODS.get(step.method), Simulates) for step in recipe.steps)


def check_simulation(recipe: Recipe) -> None:
    """Check that a recipe that simulates asks for nothing that a simulation cannot be.

    Raises:
        RecipeError: naming what it asks for.
    """
    if not simulating(recipe):
        return
    name = next(step.method for step in recipe.steps if isinstance(METHODS.get(step.method), Simulates))
    if len(recipe.steps) > 1:
        raise RecipeError(f"{name} cannot be one step among others", where="steps", fix="leave the others out")
    others = [backend for backend in recipe.backends if BACKENDS.get(backend).runtime != RUNTIME]
    if others:
        what = f"{name} leaves tensors in float that no integer file can, so nothing can be written for {others[0]}"
        raise RecipeError(what, where="backends", fix="name simulation alone, or take another recipe, such as int8")
    if recipe.scheme != type(recipe.scheme)():
        fix = "leave scheme out, and set the widths in the step: weight_bits and activation_bits"
        raise RecipeError(f"{name} has widths of its own", where="scheme", fix=fix)
    wanted = {"budget": recipe.budget.model_dump(exclude_none=True), "export.input": recipe.export.input != "float"}
    for key in (key for key, asked in wanted.items() if asked):
        raise RecipeError(f"{name} makes a simulation, which has no {key}", where=key, fix=f"leave {key} out")


def refuse_simulated(root: Path) -> None:
    """Check that a result holds more than a simulation.

    Raises:
        ArtifactError: if a recipe that simulates made it.
    """
    if (root / ARTIFACT).is_file() and not (root / _DESCRIPTION).exists():
        what = "this result is a simulation alone: it holds no network that could be lowered or looked into"
        raise ArtifactError(what, where=str(root), fix="compress again with another recipe, such as int8")


def simulated_sizes(model: Model, target: Target) -> dict[str, Any]:
    """Return what the numbers of a simulation would need if each were written at its width, and what papers give.

    Of QuantFace's rule, whose BatchNorm is trained, papers count all parameters at the width of the weights; of our own
    models, `nominal` says it.
    """
    if isinstance(model, QuantizedModel):
        return {"payload_bytes": _payload(model, target)}
    coded = []
    for layer in rounded_layers(model.network):
        weight = layer.layer.weight
        coded.append(Coded(weight.numel(), layer.bits, len(weight) if weight.dim() > 1 else 1, zero_points=True))
    numbers = sum(tensor.numel() for tensor in model.network.state_dict().values() if tensor.is_floating_point())
    size = packed_size([(_count(model.network), model.weight_bits)], coded, numbers - sum(one.numbers for one in coded))
    return {**asdict(size), "weight_bits_mean": float(model.weight_bits)}


def float_sizes(model: SimulatedModel) -> dict[str, Any]:
    """Return what papers give for the float network behind a simulation."""
    return {"nominal_bytes": nominal_bytes([(_count(model.network), _FLOAT_BITS)]), "weight_bits_mean": 32.0}


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _payload(model: QuantizedModel, target: Target) -> int:
    """Return the bytes of codes and their scales; biases, slopes and a scale and zero point a tensor are float32."""
    coded = []
    for node in model.network.graph.nodes:
        if operation(node) in LAYERS and not model.plan.in_float(node.name, target.family):
            weight: torch.Tensor = module(node).weight
            bits = model.scheme.weight_bits(node.name)
            coded.append(Coded(weight.numel(), bits, len(weight), zero_points=False))
    left = _count(model.network) - sum(one.numbers for one in coded)
    return packed_size([], coded, left + 2 * len(model.plan.tensors)).payload_bytes
