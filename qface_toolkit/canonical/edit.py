"""Small edits of an FX graph that the rewriting passes share."""

import contextlib
import io
import operator
from collections.abc import Iterator
from typing import Any, TypeGuard, TypeVar, cast

import torch
from torch import fx, nn
from torch.func import functional_call
from torch.fx.passes.shape_prop import ShapeProp

from qface_toolkit.errors import UnsupportedModel

M = TypeVar("M", bound=nn.Module)


def propagate_shapes(
    graph_module: fx.GraphModule, input_size: tuple[int, int], channels: int = 3, batch: int = 2
) -> None:
    """Note every tensor's shape for a batch, mostly of two; two tells the batch axis from axes of size one.

    Tensors on torch's meta device have shapes and no values, so a large network costs no more than a small one.
    """
    # On stderr torch would print the traceback of what it raises; the message says it in a line.
    quiet = contextlib.redirect_stderr(io.StringIO())
    try:
        with torch.no_grad(), quiet, torch.device("meta"):
            probe = torch.zeros(batch, channels, *input_size)
            _Shapes(graph_module).propagate(probe)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UnsupportedModel(
            f"the network does not run on an input of {list(probe.shape)}: {error.__cause__ or error}",
            fix="check the input size, and the colour: model.color=gray is one channel",
        ) from error


def ensure_shapes(graph_module: fx.GraphModule, input_size: tuple[int, int], channels: int = 3) -> None:
    """Note every tensor's shape as `propagate_shapes` does, unless that has been done for this size.

    It is for networks whose graph stays as it is: a node that was changed in place keeps the shape it had.
    """
    if not all("tensor_meta" in node.meta for node in graph_module.graph.nodes) or (
        shape_of(next(iter(graph_module.graph.nodes))) != (2, channels, *input_size)
    ):
        propagate_shapes(graph_module, input_size, channels)


class _Shapes(ShapeProp):
    """Runs a network whose parameters and buffers are on the meta device, without copying it.

    Of fake tensors, which `ShapeProp` knows too, it would copy the network into some, which takes most of the time.
    """

    def fetch_attr(self, target: str) -> object:
        """Return a module, or a tensor without its values."""
        found: object = super().fetch_attr(target)
        return _without_values(found) if isinstance(found, torch.Tensor) else found

    def call_method(self, target: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        """Call a method; one that brings a tensor to another device, where it has no values, leaves its shape."""
        try:
            return super().call_method(str(target), args, kwargs)
        except NotImplementedError:
            return args[0]

    def call_module(self, target: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        """Call a module with tensors that have no values."""
        module = cast(nn.Module, self.fetch_attr(str(target)))
        state = {name: _without_values(tensor) for name, tensor in _tensors(module)}
        return functional_call(module, state, args, kwargs)


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _without_values(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor, device="meta")


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape noted for a node's output, with a batch of two."""
    return tuple(node.meta["tensor_meta"].shape)


def module_of(node: object, kind: type[M]) -> M | None:
    """Return the module that a node calls if it is exactly of this kind, else None."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        module = cast(fx.GraphModule, node.graph.owning_module).get_submodule(str(node.target))
        return module if type(module) is kind else None
    return None


def calls(graph_module: fx.GraphModule, kind: type[M]) -> Iterator[tuple[fx.Node, M]]:
    """Yield each node that calls a module of exactly this kind, with the module."""
    for node in list(graph_module.graph.nodes):
        module = module_of(node, kind)
        if module is not None:
            yield node, module


def only_user(node: fx.Node) -> fx.Node | None:
    """Return the single reader of a node's output, or None."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def source(node: fx.Node) -> fx.Node:
    """Return the node whose output is a node's first input."""
    return cast(fx.Node, node.args[0])


def is_tensor(value: object) -> TypeGuard[fx.Node]:
    """Tell whether an argument is a node that makes one tensor."""
    return isinstance(value, fx.Node) and "tensor_meta" in value.meta and hasattr(value.meta["tensor_meta"], "shape")


def is_flatten(node: object) -> bool:
    """Tell whether a node is the canonical flatten."""
    return isinstance(node, fx.Node) and node.target is torch.flatten


def is_add(node: object) -> bool:
    """Tell whether a node is the canonical addition of two tensors."""
    return isinstance(node, fx.Node) and node.target is operator.add


def is_mul(node: object) -> bool:
    """Tell whether a node is the canonical product of two tensors."""
    return isinstance(node, fx.Node) and node.target is operator.mul


def free_name(owner: nn.Module, wanted: str) -> str:
    """Return a path for something new in a module: the one wanted, or one like it that nothing has yet."""
    parent, dot, last = wanted.rpartition(".")
    holder = owner.get_submodule(parent)
    while hasattr(holder, last):
        last += "_"
    return parent + dot + last


def call_module(node: fx.Node, module: nn.Module) -> None:
    """Let a node call a new module on its first input, in place of whatever it does."""
    owner = cast(fx.GraphModule, node.graph.owning_module)
    name = free_name(owner, node.name)
    owner.add_submodule(name, module)
    node.op, node.target, node.args, node.kwargs = "call_module", name, (node.args[0],), {}


def own_module(node: fx.Node, module: M) -> M:
    """Give `node` a module of its own in place of the one it calls, and return it."""
    owner = cast(fx.GraphModule, node.graph.owning_module)
    name = str(node.target)
    if sum(other.target == name for other in node.graph.nodes) > 1:
        name = free_name(owner, f"{name}_{node.name}")
    owner.add_submodule(name, module)
    node.target = name
    return module


def insert_module(after: fx.Node, name: str, module: nn.Module) -> fx.Node:
    """Insert a call of `module` behind a node; whoever read the node now reads the call."""
    owner = cast(fx.GraphModule, after.graph.owning_module)
    name = free_name(owner, name)
    owner.add_submodule(name, module)
    with after.graph.inserting_after(after):
        node = after.graph.call_module(name, (after,))
    after.replace_all_uses_with(node, delete_user_cb=lambda user: user is not node)
    return node


def bypass(node: fx.Node) -> None:
    """Let whoever reads a node read its first input instead."""
    node.replace_all_uses_with(source(node))
    node.graph.erase_node(node)


def depthwise(scale: torch.Tensor, shift: torch.Tensor | None = None) -> nn.Conv2d:
    """Return the 1x1 depthwise convolution that computes scale * x + shift, channel by channel.

    One weight a channel with a scale of its own quantizes without error, so this is how the canonical form
    writes every per-channel affine map that has nothing to fold into.
    """
    channels = len(scale)
    conv = nn.Conv2d(channels, channels, 1, groups=channels, bias=shift is not None)
    conv.weight.data.copy_(scale.reshape(-1, 1, 1, 1))
    if shift is not None:
        cast(nn.Parameter, conv.bias).data.copy_(shift)
    return conv


def by_input(layer: nn.Conv2d | nn.Linear, values: torch.Tensor) -> torch.Tensor:
    """Return one value for each input channel of a layer, shaped to be multiplied with its weight."""
    if isinstance(layer, nn.Linear):
        return values.reshape(1, -1)
    rows = values.reshape(layer.groups, -1).repeat_interleave(layer.out_channels // layer.groups, dim=0)
    return rows.reshape(layer.out_channels, -1, 1, 1)


def pair(value: int | str | tuple[int, ...]) -> tuple[int, int]:
    """Return (vertical, horizontal) of a layer's option that may be one number for both."""
    assert not isinstance(value, str), "the padding is written in pixels before anybody asks"
    return (value, value) if isinstance(value, int) else (value[0], value[1])
