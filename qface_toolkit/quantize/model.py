"""The value that methods hand on to backends: a canonical float network, its facts, its plan and its ranges."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save
from torch import fx

from qface_toolkit.canonical.edit import propagate_shapes, shape_of
from qface_toolkit.canonical.graph import check_operations, from_plain, operation, to_plain
from qface_toolkit.errors import ArtifactError, CheckpointError, UnsupportedModel
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.compact import on_slope_grid
from qface_toolkit.quantize.groups import GroupForm, group_forms
from qface_toolkit.quantize.plan import LAYERS, MACHINES, Form, FormsOf, LoweringPlan, everywhere, make_plan
from qface_toolkit.quantize.scheme import (
    ACTIVATION_MAX,
    EIGHT_BITS,
    Grid,
    LayerScheme,
    Levels,
    Range,
    Scheme,
    hull,
)
from qface_toolkit.quantize.target import Deployment, Target
from qface_toolkit.untrusted.json import read_json
from qface_toolkit.untrusted.reading import read_file
from qface_toolkit.untrusted.weights import tensors_of

FORMAT_VERSION = 4
READABLE_VERSIONS = (2, 3, FORMAT_VERSION)
"""Version 3 had one form of each PReLU for every processor; version 2 held the whole plan beside what was chosen."""
LARGEST_BYTES = 1 << 31
MOST_NUMBERS = 1 << 26
"""Numbers of a tensor for one image: 256x256 pixels in 1,024 channels."""
MOST_WIDTHS = 5000
"""Entries of a scheme; every name is compared with all of them, and no face network has so many layers."""


@dataclass(frozen=True)
class QuantizedModel:
    """A canonical network with the ranges of its tensors; weights are float and quantize the same way everywhere.

    `ranges` maps a range's owner (LoweringPlan.owners) to its interval. `deployment` says where the result will run.
    `choices` holds the options that a clock decided, as `method.option`: giving them by hand gives the same model.
    `groups` says how the ONNX files write convolutions of groups, by name, where that is not as they are.
    """

    network: fx.GraphModule
    spec: ModelSpec
    plan: LoweringPlan
    ranges: Mapping[str, Range] = field(default_factory=dict)
    scheme: Scheme = Scheme()
    deployment: Deployment = Deployment()
    choices: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, GroupForm] = field(default_factory=dict)

    def range_of(self, tensor: str, target: Target) -> Range:
        """Return the interval that a tensor's codes span in a target."""
        return hull(self.ranges[owner] for owner in self.plan.spanned(tensor, target))

    def levels_of(self, tensor: str, target: Target) -> Levels:
        """Return the levels of a tensor's codes in a target: those of the widest tensor that its grid spans.

        An image comes in eight bits, whatever the scheme says.
        """
        image = self.plan.owners()[0]
        spanned = self.plan.spanned(tensor, target)
        bits = [EIGHT_BITS if owner == image else self.scheme.activation_bits(owner) for owner in spanned]
        if max(bits) == EIGHT_BITS:
            return Levels(target.levels, ACTIVATION_MAX)
        return Levels(min(2 ** max(bits) - 1, target.levels), 2 ** max(bits) - 1)

    def grid_of(self, tensor: str, target: Target) -> Grid:
        """Return the grid of a tensor's codes in a target."""
        return Grid.over(self.range_of(tensor, target), self.levels_of(tensor, target))

    def with_scheme(self, scheme: Scheme) -> "QuantizedModel":
        """Return the same model in another scheme; a compact one has its slopes on their grid."""
        network = on_slope_grid(self.network) if scheme.compact else self.network
        return replace(self, network=network, scheme=scheme)

    def with_weight_bits(self, bits: Mapping[str, int]) -> "QuantizedModel":
        """Return the same model with widths of their own for the weights of these layers."""
        own = tuple(LayerScheme(name, weights=width) for name, width in bits.items())
        others = [one for one in self.scheme.layers if not (one.match in bits and one.activations is None)]
        return self.with_scheme(replace(self.scheme, layers=(*own, *others)))

    def with_forms(self, forms: FormsOf) -> "QuantizedModel":
        """Return the same network with other ONNX forms of its PReLUs; no range changes."""
        return replace(self, plan=make_plan(self.network, forms, self.plan.kept))

    def with_groups(self, groups: Mapping[str, GroupForm]) -> "QuantizedModel":
        """Return the same network with other ONNX forms of its convolutions of groups; no range changes."""
        return replace(self, groups=dict(groups))

    def with_kept(self, layers: Sequence[str]) -> "QuantizedModel":
        """Return the same network with these layers kept in float in its ONNX forms; no range changes."""
        return replace(self, plan=make_plan(self.network, self.plan.forms, layers))

    def with_choice(self, option: str, value: int) -> "QuantizedModel":
        """Return the same model with a note of an option that a clock decided."""
        return replace(self, choices={**self.choices, option: value})

    def with_ranges(self, ranges: Mapping[str, Range]) -> "QuantizedModel":
        """Return the same network with other ranges."""
        return replace(self, ranges=dict(ranges))

    def embed(self, inputs: npt.NDArray[np.float32], batch_size: int = 32) -> npt.NDArray[np.float32]:
        """Return the float network's embeddings, float32 [N, embedding], of inputs [N, C, height, width]."""
        return embed(self.network, inputs, batch_size)


def embed(network: torch.nn.Module, inputs: npt.NDArray[Any], batch_size: int = 32) -> npt.NDArray[Any]:
    """Run a torch network over inputs [N, C, height, width] in batches and return its outputs as one array."""
    with torch.no_grad():
        parts = [
            network(torch.from_numpy(inputs[i : i + batch_size])).numpy() for i in range(0, len(inputs), batch_size)
        ]
    return np.concatenate(parts)


def new_model(network: fx.GraphModule, spec: ModelSpec, deployment: Deployment | None = None) -> QuantizedModel:
    """Return a model without ranges yet, from a canonical network."""
    return QuantizedModel(network, spec, make_plan(network), deployment=deployment or Deployment())


def weights_bytes(model: QuantizedModel) -> bytes:
    """Return the float weights as a safetensors file."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.network.state_dict().items()}
    return save(tensors, metadata={"format": "pt"})


def description(model: QuantizedModel) -> dict[str, Any]:
    """Return everything about a model except its weights, as plain values for quantization.json."""
    choices = {"choices": dict(model.choices)} if model.choices else {}
    groups = {"groups": {name: form.as_plain() for name, form in model.groups.items()}} if model.groups else {}
    return (
        choices
        | groups
        | {
            "version": FORMAT_VERSION,
            "spec": model.spec.as_plain(),
            "scheme": model.scheme.as_plain(),
            "network": to_plain(model.network),
            "plan": _plain_choices(model.plan),
            "deployment": asdict(model.deployment),
            "ranges": {owner: [interval.low, interval.high] for owner, interval in model.ranges.items()},
        }
    )


def _plain_choices(plan: LoweringPlan) -> dict[str, Any]:
    """Return what was chosen of a plan; all else follows from the network, and a better planner may change it."""
    forms = {machine: dict(chosen) for machine, chosen in plan.forms.items()}
    return {"forms": forms} | ({"kept": list(plan.kept)} if plan.kept else {})


def load_quantized(description_file: Path, weights_file: Path, *, between_steps: bool = False) -> QuantizedModel:
    """Read a model back from quantization.json and model.safetensors; `between_steps` it may have no ranges yet.

    Raises:
        ArtifactError: if either file is missing, damaged, of another version, or does not fit the other.
    """
    plain, data = read_json(description_file), read_file(weights_file, LARGEST_BYTES)
    try:
        tensors = tensors_of(data)
    except ValueError as error:
        what = f"the weights are damaged: {error}"
        raise ArtifactError(what, where=str(weights_file), fix="compress again") from error
    return restored(plain, tensors, description_file, between_steps=between_steps)


def restored(
    plain: Mapping[str, Any], tensors: dict[str, torch.Tensor], where: Path, *, between_steps: bool = False
) -> QuantizedModel:
    """Return a model from its description as plain values and its weights, read from `where`; see `load_quantized`.

    Raises:
        ArtifactError: if the description is of another version or damaged, or the two do not fit.
    """
    if plain.get("version") not in READABLE_VERSIONS:
        raise ArtifactError(
            f"quantization format version {plain.get('version')!r} is not {FORMAT_VERSION}",
            where=str(where),
            fix="compress again with this version",
        )
    try:
        network = from_plain(plain["network"])
        network.load_state_dict(_finite(tensors), strict=True, assign=True)
        model = QuantizedModel(
            network.eval(),
            _spec(plain["spec"]),
            make_plan(network, _forms(plain), _kept(plain["plan"], network)),
            scheme=Scheme.from_plain(plain["scheme"]),
            deployment=Deployment(**plain["deployment"]),
            choices={str(option): int(value) for option, value in plain.get("choices", {}).items()},
            groups=group_forms(plain.get("groups", {}), network),
        )
        if len(model.scheme.layers) > MOST_WIDTHS:
            raise ValueError(f"the scheme has {len(model.scheme.layers)} entries")
        ranges = {owner: Range(*map(float, bounds)) for owner, bounds in plain["ranges"].items()}
        _check_runs(model)
    except ArtifactError as error:
        raise ArtifactError(error.what, where=str(where), fix=error.fix or "compress again") from error
    except _DAMAGE as error:
        said = f"it holds no {error}" if isinstance(error, KeyError) else str(error)[:300]
        raise ArtifactError(f"the saved model is damaged: {said}", where=str(where), fix="compress again") from error
    missing = [owner for owner in model.plan.owners() if owner not in ranges and (ranges or not between_steps)]
    if missing:
        what = f"the saved model has no ranges for {', '.join(missing[:5])}"
        raise ArtifactError(what, where=str(where), fix="compress again")
    if strange := _strange_forms(_forms(plain), model.plan.forms):
        what = f"the saved forms of PReLU do not fit the saved network: {', '.join(strange[:5])}"
        raise ArtifactError(what, where=str(where), fix="compress again")
    return model.with_ranges(ranges)


_DAMAGE = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    OSError,
    CheckpointError,
    UnsupportedModel,
)
"""What building a network from a description raises that holds anything but what `description` writes."""


def _finite(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    strange = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if strange:
        raise ValueError(f"these weights are no finite numbers: {strange[:5]}")
    return weights


def _check_runs(model: QuantizedModel) -> None:
    """Check that the network runs on its input size, in memory, and returns embeddings of the size its facts say."""
    check_operations(model.network)
    propagate_shapes(model.network, model.spec.input_size, model.spec.channels)
    largest = max(math.prod(shape_of(node)[1:]) for node in model.network.graph.nodes)
    if largest > MOST_NUMBERS:
        raise ValueError(f"a tensor of it has {largest} numbers for one image, more than any face network's")
    last = next(node for node in model.network.graph.nodes if node.op == "output")
    if shape_of(last) != (2, model.spec.embedding_size):
        raise ValueError(f"the network returns {shape_of(last)} for two images")


def _spec(plain: dict[str, Any]) -> ModelSpec:
    facts: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()}
    return ModelSpec(**facts)


def _forms(plain: Mapping[str, Any]) -> FormsOf:
    """Return the forms in a description: by kind of processor, or one for all as older versions had it."""
    saved, by_machine = plain["plan"]["forms"], plain["version"] == FORMAT_VERSION
    if by_machine and (not isinstance(saved, dict) or set(saved) != set(MACHINES)):
        raise ValueError(f"its forms of PReLU are no object of {', '.join(MACHINES)}")
    forms: FormsOf = saved if by_machine else everywhere(saved)
    if not all(isinstance(chosen, dict) for chosen in forms.values()):
        raise ValueError("its forms of PReLU are no object")
    strangers = {form for chosen in forms.values() for form in chosen.values()} - set(get_args(Form))
    if strangers:
        raise ValueError(f"there is no form of PReLU called {sorted(map(str, strangers))}")
    return forms


def _strange_forms(saved: FormsOf, made: FormsOf) -> list[str]:
    """Return the PReLUs that only one of two has, or that have another form there."""
    pairs = {(machine, name) for forms in (saved, made) for machine, of in forms.items() for name in of}
    return sorted({name for machine, name in pairs if saved[machine].get(name) != made[machine].get(name)})


def _kept(plain: dict[str, Any], network: fx.GraphModule) -> list[str]:
    """Return the layers that are kept in float; a description that names none has none."""
    kept, layers = plain.get("kept", []), [node.name for node in network.graph.nodes if operation(node) in LAYERS]
    if not isinstance(kept, list) or len(set(kept)) < len(kept) or not set(kept) <= set(layers):
        raise ValueError(f"these are no layers to keep in float: {kept!r}")
    return kept
