"""What must be known of an ONNX file's network beside its graph: from its metadata, or from what it is recognised as.

Preprocessing is never guessed: a file that neither says it nor is a known architecture, layer for layer, is refused
until the caller gives it.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models._architecture import ARCHITECTURES, Architecture, Plan
from qface_toolkit.models._match import needed_shapes
from qface_toolkit.models._plausible import check_preprocessing
from qface_toolkit.models._spec import PREPROCESSING, ModelSpec
from qface_toolkit.models._stated import how_to_give, missing_facts, stated_facts, stated_name, with_facts
from qface_toolkit.models.onnx.reading import OnnxFile

_UNSEEN = (nn.BatchNorm2d, nn.BatchNorm1d, nn.Dropout, nn.Identity, nn.Flatten, nn.AdaptiveAvgPool2d)
_GEOMETRY = {
    nn.Conv2d: ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"),
    nn.Linear: ("in_features", "out_features"),
    nn.MaxPool2d: ("kernel_size", "stride", "padding"),
}

Signature = tuple[Hashable, ...]


def find_facts(
    file: OnnxFile, network: fx.GraphModule, size: int, *, name: str | None, title: str, overrides: Mapping[str, Any]
) -> tuple[ModelSpec, tuple[str, ...]]:
    """Return the facts of a network with embeddings of this size, and notes that say where they are from.

    What the caller overrides goes before the file's metadata, and that before what the architecture was published with.

    Raises:
        CheckpointError: listing which of mean, std and color are not known, or if the network is not `name`.
        RecipeError: listing the overrides that are wrong.
        UnknownName: if there is no architecture called `name`.
    """
    stated = stated_facts(file.metadata)
    known = _recognised(network, file.image.size, size, name)
    published, found_name = (known[0].facts, known[1].name) if known else ({}, None)
    gray = file.image.channels == 1
    if gray and overrides.get("color", "gray") == "gray":
        overrides = {**overrides, "color": "gray"}  # one channel says it
    missing = missing_facts(overrides, stated, published)
    if missing:
        raise _missing(missing, _candidates(network, file.image.size, size))
    called = found_name or stated_name(file.metadata) or title
    spec = ModelSpec(name=called, input_size=file.image.size, embedding_size=size)
    spec = with_facts(spec, given=overrides, stated=stated, otherwise=published)
    if spec.channels != file.image.channels:
        what = f"images enter with {file.image.channels} channel(s), and model.color is {spec.color}"
        raise CheckpointError(what, fix=f"give --set model.color={'gray' if gray else 'rgb'}")
    check_preprocessing(spec, overrides, network=network, expected={**published, **stated})
    return spec, _sources(overrides, stated, found_name)


def _sources(overrides: Mapping[str, Any], stated: Mapping[str, Any], found: str | None) -> tuple[str, ...]:
    """Return one note on where each fact of the preprocessing is from."""
    origins: dict[str, list[str]] = {}
    for key in PREPROCESSING:
        origin = "given" if key in overrides else "the file's metadata" if key in stated else f"that of {found}"
        origins.setdefault(origin, []).append(key)
    notes = [f"preprocessing ({', '.join(keys)}): {origin}" for origin, keys in origins.items()]
    recognised = (f"recognised as {found}, layer for layer",) if found else ()
    return (*recognised, *notes)


def _missing(missing: list[str], candidates: list[str]) -> CheckpointError:
    several = f"; it could be {' or '.join(candidates)}, whose preprocessing differs" if candidates else ""
    one = f"; or give --model {candidates[0]}" if candidates else ""
    return CheckpointError(
        f"the ONNX file does not say how images are prepared, and its network is none known here{several}; "
        f"missing: {', '.join(missing)} (the network is fed (pixel - mean) / std, pixels 0..255, in this colour order)",
        fix=f"{how_to_give(missing)}{one}",
    )


def _recognised(
    network: fx.GraphModule, input_size: tuple[int, int], size: int, name: str | None
) -> tuple[Architecture, Plan] | None:
    """Return the architecture whose layers are exactly the network's; none where two say different preprocessing."""
    entries = {name: ARCHITECTURES.get(name)} if name else ARCHITECTURES.entries()
    found = _matches(entries, network, input_size, size)
    if name and not found:
        raise CheckpointError(
            f"the network is not that of {name}: its layers differ", fix="leave out --model; give the facts with --set"
        )
    ways = {(entry.mean, entry.std, entry.color) for entry, _ in found}
    return found[0] if len(ways) == 1 else None


def _candidates(network: fx.GraphModule, input_size: tuple[int, int], size: int) -> list[str]:
    return [plan.name for _, plan in _matches(ARCHITECTURES.entries(), network, input_size, size)]


def _matches(
    entries: Mapping[str, Architecture], network: fx.GraphModule, input_size: tuple[int, int], size: int
) -> list[tuple[Architecture, Plan]]:
    # Following a network layer by layer takes ten times as long as making it, so most are told by their kernels, and
    # those of other depths by how many there are: of published sizes a process makes each once.
    kernels = Counter(tuple(one.weight.shape) for one in network.modules() if isinstance(one, nn.Conv2d))
    as_deep = [
        one for one in entries.values() if not one.told_by_keys and _kernels(one.published).total() == kernels.total()
    ]
    plans = [(entry, plan) for entry in as_deep if (plan := _at_size(entry.published, input_size, size))]
    alike = [(entry, plan) for entry, plan in plans if _kernels(plan) == kernels]
    signature = _signature(network) if alike else ()
    return [(entry, plan) for entry, plan in alike if _plan_signature(plan) == signature]


def _kernels(plan: Plan) -> Counter[tuple[int, ...]]:
    return Counter(shape for shape in needed_shapes(plan).values() if len(shape) == 4)


def _at_size(plan: Plan, input_size: tuple[int, int], size: int) -> Plan | None:
    """Return a published plan for another input and embedding, or None if its layout cannot have them.

    A plan holds the input's size as such, or as the size of its last feature map: its `grid` or `kernel`.
    """
    wanted: dict[str, object] = {"embedding_size": size, "input_size": input_size}
    for name in ("grid", "kernel"):
        if hasattr(plan, name):
            stride = plan.input_size[0] // getattr(plan, name)[0]
            wanted[name] = tuple(pixels // stride for pixels in input_size)
    names = {field.name for field in dataclasses.fields(plan)}  # type: ignore[arg-type]  # plans are dataclasses
    changed: Plan = dataclasses.replace(plan, **{key: wanted[key] for key in names & wanted.keys()})  # type: ignore[type-var]
    return changed if changed.input_size == input_size and changed.embedding_size == size else None


@functools.lru_cache(maxsize=64)
def _plan_signature(plan: Plan) -> Signature:
    with torch.device("meta"):
        return _signature(fx.symbolic_trace(plan.build().eval()))


def _signature(network: fx.GraphModule) -> Signature:
    """Return what a network does, in order: geometries, activations, sums; not BatchNorm, which may be folded."""
    return tuple(_traits(network))


def _traits(network: fx.GraphModule) -> Iterator[Hashable]:
    """Yield each step that counts; exporters merge two that do the same to the same tensor, so those count once."""
    seen = set()
    for node in network.graph.nodes:
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        traits = _traits_of(node, module)
        weighs = module is not None and any(True for _ in module.parameters())
        if traits and (weighs or (traits, str(node.args)) not in seen):
            yield traits
        seen.add((traits, str(node.args)))


def _traits_of(node: fx.Node, module: nn.Module | None) -> Signature:
    if module is not None and not isinstance(module, _UNSEEN):
        kind = type(module)
        return kind.__name__, *(_plain(getattr(module, key)) for key in _GEOMETRY.get(kind, ()))
    if node.op == "call_function" and node.target not in (torch.flatten, nn.functional.normalize):
        return (str(getattr(node.target, "__name__", node.target)),)
    return ()


def _plain(value: object) -> object:
    return (value, value) if isinstance(value, int) else value
