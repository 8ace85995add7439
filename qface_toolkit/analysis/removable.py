"""Which channels of which tensors can be taken out together, and the smaller network that is left.

Nobody may read a channel that no layer writes any more. What lies between keeps channels apart: activations, pools,
gates, and convolutions of single channels. So a depthwise chain loses a channel in all its layers, a sum ties the
channels of a whole residual stream, a concatenation strings those of its parts together, and a linear layer behind a
flattened map loses a column for every pixel. A convolution of groups loses whole groups. What mixes channels in other
ways (attention, shuffles, norms over channels) keeps all that it touches.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import cast

import torch
from torch import Tensor, fx, nn

from qface_toolkit.analysis._union import Union
from qface_toolkit.canonical.edit import ensure_shapes, own_module, shape_of
from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.canonical.islands import Island
from qface_toolkit.quantize.plan import LAYERS

_PASS = (
    *("prelu", "relu", "relu6", "sigmoid", "hard_sigmoid"),
    *("max_pool", "average_pool", "global_average_pool"),
)
_JOIN = ("add", "mul")
_BY_NUMBER = frozenset(
    ("abs", "sqrt", "reciprocal", "exp", "log", "erf", "tanh", "softplus", "gelu", "elu", "power", "clip")
    + ("logistic", "hard_logistic", "scaled", "plus", "minus", "times", "quotient", "maximum", "minimum")
)
"""Islands that make each number of numbers at its own place."""


@dataclass(frozen=True)
class Removable:
    """The classes of channels that come and go together: for each tensor the class of each channel, int64 [C].

    `held` says of each class, bool [classes], that something reads or makes it that needs all of its channels.
    """

    of: Mapping[str, Tensor]
    held: Tensor

    def stays(self, gone: Collection[int]) -> dict[str, Tensor]:
        """Return which channels of each tensor are left without some classes, bool [C]."""
        lost = torch.zeros(len(self.held), dtype=torch.bool)
        lost[list(gone)] = True
        assert not bool((lost & self.held).any()), "what is held stays"
        return {name: ~lost[classes] for name, classes in self.of.items()}

    def spaces(self) -> list["Space"]:
        """Return the classes that can go, those together that stand in the same tensors, in the network's order."""
        where: dict[int, list[str]] = {}
        for name, classes in self.of.items():
            for one in dict.fromkeys(classes.tolist()):
                where.setdefault(one, []).append(name)
        found: dict[tuple[str, ...], list[int]] = {}
        for one, names in where.items():
            if not self.held[one]:
                found.setdefault(tuple(names), []).append(one)
        return [Space(names, tuple(classes)) for names, classes in found.items()]


@dataclass(frozen=True)
class Space:
    """Classes that stand in the same tensors: any of them may go. The first tensor's name is the space's."""

    tensors: tuple[str, ...]
    classes: tuple[int, ...]

    @property
    def name(self) -> str:
        """Return the name of the first tensor that has these channels."""
        return self.tensors[0]


def find_removable(
    network: fx.GraphModule, input_size: tuple[int, int], channels: int = 3, keep: Sequence[str] = ()
) -> Removable:
    """Return the classes of a canonical network's channels; layers that match a wildcard of `keep` keep all theirs."""
    ensure_shapes(network, input_size, channels)
    union = Union()
    first: dict[str, list[int]] = {}
    nodes = [node for node in network.graph.nodes if operation(node) != "output"]
    for node in nodes:
        first[node.name] = _channels(node, first, union)
    classes, count = union.numbered(first)
    of = {name: torch.tensor(found) for name, found in classes.items()}
    held = torch.zeros(count, dtype=torch.bool)
    for node in network.graph.nodes:
        for name in _held(node, keep):
            held[of[name]] = True
    return Removable(of, held)


def _channels(node: fx.Node, first: Mapping[str, list[int]], union: Union) -> list[int]:
    """Return a number for each channel of a tensor: its source's, where it goes with that."""
    sources = [first[source.name] for source in inputs(node)]
    kind = operation(node)
    if kind in _PASS:
        return sources[0]
    if kind in _JOIN or _by_number(node):
        for other in sources[1:]:
            for one, two in zip(sources[0], other, strict=True):
                union.join(one, two)
        return sources[0]
    if kind == "concat":
        return [channel for source in sources for channel in source]
    if kind == "flatten":
        pixels = shape_of(node)[1] // len(sources[0])
        return [channel for channel in sources[0] for _ in range(pixels)]
    made = union.more(shape_of(node)[1])
    if kind == "conv" and module(node).groups > 1:
        _join_groups(sources[0], made, module(node).groups, union)
    return made


def _join_groups(read: list[int], made: list[int], groups: int, union: Union) -> None:
    """Let the channels that a convolution of groups reads and makes in one group go together."""
    reads, makes = len(read) // groups, len(made) // groups
    for group in range(groups):
        together = read[group * reads : (group + 1) * reads] + made[group * makes : (group + 1) * makes]
        for other in together[1:]:
            union.join(together[0], other)


def _by_number(node: fx.Node) -> bool:
    """Tell whether a node is an island that keeps channels apart, with no constant of their number."""
    if operation(node) != "island" or module(node).kind not in _BY_NUMBER:
        return False
    island = cast(Island, module(node))
    rank = len(shape_of(node))
    constants = all(len(shape) < rank or shape[1] == 1 for shape in island.shapes if shape)
    shared = not any(len(shape) >= rank - 1 for shape in island.shapes) or rank == 4
    return constants and shared and len({shape_of(source) for source in inputs(node)}) == 1


def _held(node: fx.Node, keep: Sequence[str]) -> list[str]:
    """Return the tensors around a node that keep all their channels."""
    kind, read = operation(node), [source.name for source in inputs(node)]
    if kind == "output":
        return read
    if kind in LAYERS:
        return [node.name] if any(fnmatchcase(node.name, one) for one in keep) else []
    if kind in (*_PASS, *_JOIN, "concat", "flatten") or _by_number(node):
        return []
    return [*read, node.name]


class Narrower:
    """A copy of a network that loses classes of channels and gets them back; only what changes is made anew."""

    def __init__(self, network: fx.GraphModule, removable: Removable) -> None:
        self.removable = removable
        self.modules = {node.name: module(node) for node in network.graph.nodes if node.op == "call_module"}
        self.small = copy.deepcopy(network)
        self.stays = removable.stays(())

    def without(self, gone: Collection[int]) -> fx.GraphModule:
        """Return the copy without these classes, with its shapes; the next call changes it again."""
        before, self.stays = self.stays, self.removable.stays(gone)
        changed = {name for name, stays in self.stays.items() if not torch.equal(stays, before[name])}
        for node in self.small.graph.nodes:
            around = {node.name, *(source.name for source in inputs(node))}
            if changed & around and operation(node) != "output":
                self._change(node)
        return self.small

    def _change(self, node: fx.Node) -> None:
        stays = self.stays[node.name]
        if operation(node) in LAYERS:
            own_module(node, _layer(self.modules[node.name], self.stays[inputs(node)[0].name], stays))
        elif operation(node) == "prelu" and self.modules[node.name].num_parameters > 1:
            own_module(node, _prelu(self.modules[node.name], stays))
        images, _, *size = shape_of(node)
        shape = torch.Size((images, int(stays.sum()), *size))
        node.meta["tensor_meta"] = node.meta["tensor_meta"]._replace(shape=shape)


def narrowed(network: fx.GraphModule, removable: Removable, gone: Collection[int]) -> fx.GraphModule:
    """Return a copy of a network without some classes, with its shapes."""
    return Narrower(network, removable).without(gone)


def _layer(layer: nn.Conv2d | nn.Linear, read: Tensor, made: Tensor) -> nn.Conv2d | nn.Linear:
    """Return a layer of the channels that stay."""
    with torch.no_grad():
        weight = layer.weight[made]
        if isinstance(layer, nn.Linear) or layer.groups == 1:
            weight = weight[:, read]
    reads, makes = int(read.sum()), int(made.sum())
    small: nn.Conv2d | nn.Linear
    if isinstance(layer, nn.Linear):
        small = nn.Linear(reads, makes, bias=layer.bias is not None, device="meta")
    else:
        groups = 1 if layer.groups == 1 else reads * layer.groups // layer.in_channels
        size, stride = layer.kernel_size, layer.stride
        options = {"padding": layer.padding, "dilation": layer.dilation, "groups": groups, "device": "meta"}
        small = nn.Conv2d(reads, makes, size, stride, bias=layer.bias is not None, **options)  # type: ignore[arg-type]
    small.weight = _parameter(weight, layer.weight)
    if layer.bias is not None:
        small.bias = _parameter(layer.bias[made], layer.bias)
    return small.train(layer.training)


def _prelu(prelu: nn.PReLU, stay: Tensor) -> nn.PReLU:
    small = nn.PReLU(int(stay.sum()))
    small.weight = _parameter(prelu.weight[stay], prelu.weight)
    return small.train(prelu.training)


def _parameter(values: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), requires_grad=like.requires_grad)
