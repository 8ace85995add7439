"""Small edits of an FX graph that the rewriting passes share."""

import contextlib
import io
import logging
import operator
from collections.abc import Iterator
from typing import TypeVar, cast

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.passes.shape_prop import ShapeProp

from qface_toolkit.errors import UnsupportedModel

M = TypeVar("M", bound=nn.Module)


def propagate_shapes(graph_module: fx.GraphModule, input_size: tuple[int, int]) -> None:
    """Note every tensor's shape for a batch of two; two tells the batch axis from axes of size one.

    Fake tensors have shapes and no values, so a large network costs no more than a small one.
    """
    probe = torch.zeros(2, 3, *input_size)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with torch.no_grad(), _without_torch_telling():
            ShapeProp(graph_module, fake_mode=fake).propagate(probe)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UnsupportedModel(
            f"the network does not run on an input of {list(probe.shape)}: {error.__cause__ or error}",
            fix="check the input size",
        ) from error


@contextlib.contextmanager
def _without_torch_telling() -> Iterator[None]:
    """Keep torch from printing and logging the traceback of what it raises: the message says it in a line."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    log.disabled, before = True, log.disabled
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.disabled = before


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


def is_flatten(node: object) -> bool:
    """Tell whether a node is the canonical flatten."""
    return isinstance(node, fx.Node) and node.target is torch.flatten


def is_add(node: object) -> bool:
    """Tell whether a node is the canonical addition of two tensors."""
    return isinstance(node, fx.Node) and node.target is operator.add


def own_module(node: fx.Node, module: M) -> M:
    """Give `node` a module of its own in place of the one it calls, and return it."""
    owner = cast(fx.GraphModule, node.graph.owning_module)
    name = str(node.target)
    if sum(other.target == name for other in node.graph.nodes) > 1:
        name = f"{name}_{node.name}"
    owner.add_submodule(name, module)
    node.target = name
    return module


def insert_module(after: fx.Node, name: str, module: nn.Module) -> fx.Node:
    """Insert a call of `module` behind a node; whoever read the node now reads the call."""
    owner = cast(fx.GraphModule, after.graph.owning_module)
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
