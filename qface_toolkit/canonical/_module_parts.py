"""Spell modules and functions that are made of others by what they are made of (see `_parts`)."""

import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.canonical import _parts
from qface_toolkit.canonical._constants import constant_of
from qface_toolkit.canonical._moves import spelling
from qface_toolkit.canonical._parts import Made
from qface_toolkit.canonical.edit import bypass, call_module, free_name, is_tensor, shape_of, source

_TO_THE_CPU = ("to", "cpu", "cuda", "type", "type_as", "data", "requires_grad_", "double")
"""Where an image goes that is in main memory already, as the float32 that it is."""


class _Called:
    """A module that a node calls, whose parts can be called in its place."""

    def __init__(self, node: fx.Node) -> None:
        self.node, self.path = node, str(node.target)
        self.owner = cast(fx.GraphModule, node.graph.owning_module)
        self.module: Any = self.owner.get_submodule(self.path)

    def part(self, name: str, *tensors: Made) -> Made:
        """Call a module inside the module."""
        nodes = tuple(tensor.node for tensor in tensors)
        return fx.Proxy(self.node.graph.call_module(f"{self.path}.{name}", nodes), tensors[0].tracer)

    def new(self, module: nn.Module, *tensors: Made) -> Made:
        """Call a module that did not exist before."""
        name = free_name(self.owner, f"{self.path}_part")
        self.owner.add_submodule(name, module)
        nodes = tuple(tensor.node for tensor in tensors)
        return fx.Proxy(self.node.graph.call_module(name, nodes), tensors[0].tracer)

    def held(self, name: str, beside: Made) -> Made:
        """Return a parameter of the module, to compute with beside a tensor; None if it has none of that name."""
        if getattr(self.module, name) is None:
            return None
        return fx.Proxy(self.node.graph.get_attr(f"{self.path}.{name}"), beside.tracer)


def _encoder_layer(called: _Called, tokens: Made, *masks: Made, **named: Made) -> Made:
    layer = called.module
    if _given(masks, named):
        return None

    def attended(x: Made) -> Made:
        return called.part("self_attn", x, x, x)[0]

    def fed(x: Made) -> Made:
        return called.part("linear2", layer.activation(called.part("linear1", x)))

    if layer.norm_first:
        tokens = tokens + attended(called.part("norm1", tokens))
        return tokens + fed(called.part("norm2", tokens))
    tokens = called.part("norm1", tokens + attended(tokens))
    return called.part("norm2", tokens + fed(tokens))


def _encoder(called: _Called, tokens: Made, *masks: Made, **named: Made) -> Made:
    if _given(masks, named):
        return None
    for number in range(len(called.module.layers)):
        tokens = called.part(f"layers.{number}", tokens)
    return tokens if called.module.norm is None else called.part("norm", tokens)


def _given(masks: tuple[Made, ...], named: Mapping[str, Made]) -> bool:
    return any(mask is not None and mask is not False for mask in (*masks, *named.values()))


def _conv_of_lines(called: _Called, x: Made) -> Made:
    """Convolve lines as pictures of one column."""
    line = called.module
    if line.padding_mode != "zeros" or isinstance(line.padding, str):
        return None
    kernel, stride, dilation = ((option[0], 1) for option in (line.kernel_size, line.stride, line.dilation))
    sides = (line.padding[0], 0)
    made = nn.Conv2d(
        line.in_channels, line.out_channels, kernel, stride, sides, dilation, line.groups, line.bias is not None
    )
    made.weight.data.copy_(line.weight.detach()[..., None])
    if line.bias is not None:
        cast(nn.Parameter, made.bias).data.copy_(line.bias.detach())
    return called.new(made, x.unsqueeze(-1)).squeeze(-1)


def _function(name: str, *options: str) -> Callable[..., Made]:
    """Return what writes a module as the function of this name, given the module's options in this order."""
    function = _parts.FUNCTIONS[name]
    return lambda called, x: function(x, *(getattr(called.module, option) for option in options))


MODULES: Mapping[type[nn.Module], Callable[..., Made]] = {
    nn.TransformerEncoderLayer: _encoder_layer,
    nn.TransformerEncoder: _encoder,
    nn.Conv1d: _conv_of_lines,
    nn.RMSNorm: lambda called, x: _parts.FUNCTIONS["rms_norm"](
        x, called.module.normalized_shape, called.held("weight", x), called.module.eps
    ),
    nn.GLU: _function("glu", "dim"),
    nn.SELU: _function("selu"),
    nn.CELU: _function("celu", "alpha"),
    nn.Softsign: _function("softsign"),
    nn.LogSigmoid: _function("logsigmoid"),
    nn.Tanhshrink: _function("tanhshrink"),
    nn.Softmin: _function("softmin", "dim"),
    nn.LocalResponseNorm: _function("local_response_norm", "size", "alpha", "beta", "k"),
    nn.LPPool2d: _function("lp_pool2d", "norm_type", "kernel_size", "stride", "ceil_mode"),
    nn.MaxPool1d: _function("max_pool1d", "kernel_size", "stride", "padding"),
    nn.AvgPool1d: _function("avg_pool1d", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
    nn.AdaptiveAvgPool1d: _function("adaptive_avg_pool1d", "output_size"),
    nn.AdaptiveMaxPool1d: _function("adaptive_max_pool1d", "output_size"),
    nn.AdaptiveMaxPool2d: _function("adaptive_max_pool2d", "output_size"),
    nn.AdaptiveAvgPool2d: _function("adaptive_avg_pool2d", "output_size"),
}
"""Module -> the same in other words; None says that this call of it stays."""


def modules_in_parts(graph_module: fx.GraphModule) -> None:
    """Write each module of the table by its parts, and those again by theirs."""
    node = next(iter(graph_module.graph.nodes))
    while node.op != "output":
        following = node.next
        if node.op == "call_module":
            called = _Called(node)
            spell = MODULES.get(type(called.module))
            first = None if spell is None else _replaced(node, lambda *args, s=spell, c=called, **kw: s(c, *args, **kw))
            following = following if first is None else first
        node = following


def functions_in_parts(graph_module: fx.GraphModule) -> None:
    """Write each function and method of the table by its parts."""
    for node in list(graph_module.graph.nodes):
        spell = _parts.FUNCTIONS.get(spelling(node).removesuffix("_"))
        if spell is not None and is_tensor(node) and node.all_input_nodes and all(map(is_tensor, node.all_input_nodes)):
            _replaced(node, spell)


def _replaced(node: fx.Node, spell: Callable[..., Made]) -> fx.Node | None:
    """Let whoever reads a node read its other spelling; return the first of the nodes that spell it."""
    before = node.prev
    tracer = fx.proxy.GraphAppendingTracer(node.graph)
    with node.graph.inserting_before(node):
        entering = (node.args, node.kwargs)
        args, kwargs = cast(Any, fx.node.map_arg(entering, lambda one: cast(Any, fx.Proxy(one, tracer))))
        made = spell(*args, **kwargs)
    if made is None:
        return None
    node.replace_all_uses_with(made.node)
    node.graph.erase_node(node)
    return before.next


def largest_of_axes(graph_module: fx.GraphModule) -> None:
    """Write the values of torch.max and torch.min along an axis, which come with their places, alone."""
    for node in list(graph_module.graph.nodes):
        name = spelling(node)
        if name not in ("max", "min") or is_tensor(node) or not node.args or not is_tensor(node.args[0]):
            continue
        given = dict(zip(("dim", "keepdim"), node.args[1:], strict=False)) | dict(node.kwargs)
        readers = [user for user in node.users if user.users]
        if not isinstance(given.get("dim"), int) or not all(map(_takes_values, readers)):
            continue
        with node.graph.inserting_before(node):
            x: Made = fx.Proxy(source(node))
            sign = 1 if name == "max" else -1
            largest: Made = torch.amax(x if sign == 1 else -x, given["dim"], bool(given.get("keepdim", False)))
            made = largest if sign == 1 else -largest
        for user in readers:
            made.node.meta = user.meta  # what it is of is known to the largest of another axis behind it
            user.replace_all_uses_with(made.node)


def _takes_values(user: fx.Node) -> bool:
    first = user.target is operator.getitem and user.args[1:] == (0,)
    return first or spelling(user) == "values"


def layers_of_constants(graph_module: fx.GraphModule) -> None:
    """Write convolutions and products with weights that are computed or held elsewhere as layers that own them."""
    for node in list(graph_module.graph.nodes):
        if node.target not in (F.conv2d, torch.conv2d, F.linear) or not is_tensor(node):
            continue
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        given: dict[str, Any] = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
        added = given.pop("bias", None)
        weight, bias = constant_of(given.get("weight")), constant_of(added)
        if weight is None or (bias is None and added is not None) or not is_tensor(given["input"]):
            continue
        if node.target is F.linear:
            layer: nn.Module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
        else:
            options = {name: given[name] for name in names[3:] if name in given}
            channels = weight.shape[1] * int(options.get("groups", 1))
            kernel = (weight.shape[2], weight.shape[3])
            layer = nn.Conv2d(channels, weight.shape[0], kernel, bias=bias is not None, **options)
        held = {"weight": weight} | ({} if bias is None else {"bias": bias})
        layer.load_state_dict(held)
        name = free_name(graph_module, node.name)
        graph_module.add_submodule(name, layer)
        node.op, node.target, node.args, node.kwargs = "call_module", name, (given["input"],), {}


def norms_of_constants(graph_module: fx.GraphModule) -> None:
    """Write BatchNorm that is called as a function of what it has seen in training as the layer that it is."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    for node in list(graph_module.graph.nodes):
        given: dict[str, Any] = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
        if node.target is not F.batch_norm or given.get("training"):
            continue
        tensors = {name: given[name] for name in names[1:5] if given.get(name) is not None}
        held = {name: tensor for name, node_of in tensors.items() if (tensor := constant_of(node_of)) is not None}
        if len(held) < len(tensors) or not {"running_mean", "running_var"} <= held.keys():
            continue
        kind = nn.BatchNorm2d if len(shape_of(given["input"])) == 4 else nn.BatchNorm1d
        norm = kind(held["running_mean"].numel(), eps=float(given.get("eps", 1e-5)))
        norm.load_state_dict(norm.state_dict() | held)
        node.args, node.kwargs = (given["input"],), {}
        call_module(node, norm.eval())


def stay_where_they_are(graph_module: fx.GraphModule) -> None:
    """Drop what would bring an image to a device or type that it is on already."""
    for node in list(graph_module.graph.nodes):
        moved = spelling(node) in _TO_THE_CPU and is_tensor(node) and is_tensor(node.args[0])
        if moved and node.meta["tensor_meta"].dtype == source(node).meta["tensor_meta"].dtype:
            bypass(node)


PASSES = (
    stay_where_they_are,
    modules_in_parts,
    layers_of_constants,
    norms_of_constants,
    largest_of_axes,
    functions_in_parts,
    functions_in_parts,
)
