"""Keep the images of a batch on the first axis where a network folds them into windows or moves them behind tokens.

Images do not depend on one another. So whatever a network makes of one image, with all the axes that it has then, can
be computed for many behind one more axis in front: axis numbers grow by one, and sizes are those of a single image.
"""

import copy
import operator
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import fx, nn

from qface_toolkit.canonical._affine import kind_of
from qface_toolkit.canonical._module_parts import modules_in_parts
from qface_toolkit.canonical._moves import PERMUTATIONS, RESHAPES, permutation, spelling, write
from qface_toolkit.canonical.edit import free_name, is_tensor, own_module, propagate_shapes, shape_of, source
from qface_toolkit.canonical.islands import Move
from qface_toolkit.errors import UnsupportedModel

Shape = tuple[int, ...]

_AXES: Mapping[str, tuple[str, int, int | None]] = {
    **dict.fromkeys(("softmax", "mean", "sum", "amax", "amin", "std", "var", "max", "min"), ("dim", 1, None)),
    **dict.fromkeys(("cat", "concat", "concatenate", "stack", "unbind"), ("dim", 1, 0)),
    **dict.fromkeys(("chunk", "split", "tensor_split"), ("dim", 2, 0)),
    "roll": ("dims", 2, None),
    "flip": ("dims", 1, None),
    "normalize": ("dim", 2, 1),
}
"""Function -> the name and place of its axes, and which they are if none are given."""

_RESHAPES = (*RESHAPES, "view", "view_as")
_EACH_NUMBER = (
    *("relu", "gelu", "sigmoid", "tanh", "silu", "exp", "sqrt", "rsqrt", "pow", "abs", "clamp", "neg", "hardswish"),
    *("dropout", "contiguous", "clone", "float", "detach", "matmul", "bmm", "layer_norm", "linear", "to", "type_as"),
)
_LIKE_ANOTHER = ("to", "type_as", "expand_as", "view_as", "reshape_as")
"""What takes of its second tensor nothing but the type or the sizes."""

_MODULES = (
    *(nn.Linear, nn.LayerNorm, nn.Identity, nn.Dropout, nn.GELU, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Sigmoid, nn.Tanh),
    *(nn.Hardswish, nn.LeakyReLU, nn.ELU),
)
"""What computes the same whatever axes are in front."""


def batches_first(graph_module: fx.GraphModule, input_size: tuple[int, int], channels: int, *, single: bool) -> None:
    """Let every tensor have the images on its first axis; `single` says that the graph is that of one image.

    Raises:
        UnsupportedModel: naming an operation of which it is not known what it does to the images.
    """
    twos: dict[fx.Node, Shape] = {}
    if not single:
        propagate_shapes(graph_module, input_size, channels)
        twos = _shapes(graph_module)
        if not any(shape[0] != 2 and not _taken_apart(node) for node, shape in twos.items() if shape):
            return
    propagate_shapes(graph_module, input_size, channels, batch=1)
    modules_in_parts(graph_module)
    propagate_shapes(graph_module, input_size, channels, batch=1)
    _Front(graph_module, twos).rewrite()
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()


def _shapes(graph_module: fx.GraphModule) -> dict[fx.Node, Shape]:
    """Return the shape of each tensor that depends on the images."""
    depends, shapes = set[fx.Node](), dict[fx.Node, Shape]()
    for node in graph_module.graph.nodes:
        read = node.all_input_nodes[: 1 if spelling(node) in _LIKE_ANOTHER else None]
        if node.op == "placeholder" or (depends & {*read} and (is_tensor(node) or _is_row(node))):
            depends.add(node)
            if is_tensor(node) and node.op != "output":
                shapes[node] = shape_of(node)
    return shapes


def _is_row(node: fx.Node) -> bool:
    """Tell whether a node makes several tensors."""
    made = node.meta.get("type")
    return isinstance(made, type) and issubclass(made, tuple | list) and made is not torch.Size and node.op != "output"


def _taken_apart(node: fx.Node) -> bool:
    """Tell whether a tensor has its images elsewhere for a moment only: what reads it takes each of its rows alone."""
    moved = spelling(node) in PERMUTATIONS
    return moved and all(
        spelling(user) == "unbind" or (user.target is operator.getitem and isinstance(user.args[1], int))
        for user in node.users
    )


class _Front:
    """Rewrites a graph whose shapes are noted for one image; `twos` are those for two, where there are any."""

    def __init__(self, graph_module: fx.GraphModule, twos: Mapping[fx.Node, Shape]) -> None:
        self.graph_module, self.twos = graph_module, twos
        self.shapes = _shapes(graph_module)
        self.opened = set[fx.Node]()

    def rewrite(self) -> None:
        """Give each tensor that has its images elsewhere one more axis in front."""
        for node in list(self.graph_module.graph.nodes):
            entering = self.opened & {*node.all_input_nodes}
            if node.op == "output" and entering:
                raise _unknown(node, "the embeddings of several images are mixed")
            if node in self.shapes and (entering or self._moved(node)):
                self._open(node)
            elif entering and _is_row(node):
                self._rewrite(node)
                self.opened.add(node)
            elif node in self.shapes and not self.twos:
                _for_any_number(node, self.shapes[node])

    def _moved(self, node: fx.Node) -> bool:
        shape = self.shapes[node]
        return shape[:1] != (1,) or self.twos.get(node, (2, *shape[1:])) != (2, *shape[1:])

    def _open(self, node: fx.Node) -> None:
        shape, moved = self.shapes[node], self._moved(node)
        self._rewrite(node)
        if moved:
            self.opened.add(node)
            return
        self.shapes[self._behind(node, shape[1:])] = shape

    def _behind(self, node: fx.Node, shape: Shape) -> fx.Node:
        """Let whoever reads a node read it in another shape."""
        made = self._reshaped(node, shape)
        node.replace_all_uses_with(made, delete_user_cb=lambda user: user is not made)
        return made

    def _reshaped(self, node: fx.Node, shape: Shape) -> fx.Node:
        name = free_name(self.graph_module, f"{node.name}_images")
        self.graph_module.add_submodule(name, Move.of("reshape", shape=shape))
        with node.graph.inserting_after(node):
            return node.graph.call_module(name, (node,))

    def _rewrite(self, node: fx.Node) -> None:
        """Let a node compute what it does of tensors that have one more axis in front."""
        order, name, module = permutation(node), spelling(node), _called(node)
        of_tensor = bool(node.args) and is_tensor(node.args[0])
        self._open_inputs(node)
        if order is not None:
            write(node, Move.of("permute", order=(0, *(axis + 1 for axis in order))), source(node))
        elif isinstance(module, nn.MultiheadAttention):
            self._write_attention(node, module)
        elif name in _RESHAPES or isinstance(module, nn.Flatten | nn.Unflatten):
            write(node, Move.of("reshape", shape=self.shapes[node]), source(node))
        elif node.target is operator.getitem:
            if of_tensor:
                index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
                node.args = (source(node), (slice(None), *index))
        elif name in _AXES:
            _shift(node, *_AXES[name])
        elif isinstance(module, nn.Softmax):
            axis = cast(int, module.dim)
            own_module(node, nn.Softmax(axis + 1 if axis >= 0 else axis))
        elif not (isinstance(module, _MODULES) or name in _EACH_NUMBER or kind_of(node) is not None):
            raise _unknown(node, "an operation on images that are not on the first axis")

    def _open_inputs(self, node: fx.Node) -> None:
        """Let a node read tensors with one more axis in front, all of one number of axes."""
        tensors = [one for one in node.all_input_nodes if one in self.shapes]
        most = max((len(self.shapes[one]) for one in tensors), default=0)
        if kind_of(node) is not None or spelling(node) in ("matmul", "bmm"):
            most = max(most, len(self.shapes[node]))
        for one in tensors:
            wanted = (1,) * (most - len(self.shapes[one])) + self.shapes[one]
            if one not in self.opened or wanted != self.shapes[one]:
                node.replace_input_with(one, self._reshaped(one, wanted))

    def _write_attention(self, node: fx.Node, attention: nn.MultiheadAttention) -> None:
        """Let tokens [L, 1, C] of one image attend to one another as [N, L, C], for which torch has a form."""
        if attention.batch_first:
            raise _unknown(node, "attention among images that are not on the first axis")
        own = copy.copy(attention)
        own.batch_first = True
        own_module(node, own)
        for tokens in {*node.all_input_nodes}:
            length, _, channels = self.shapes[source(tokens)] if tokens not in self.shapes else self.shapes[tokens]
            node.replace_input_with(tokens, self._reshaped(tokens, (length, channels)))
        for user in list(node.users):
            if user in self.shapes:
                shape = self.shapes.pop(user)
                back = self._behind(user, shape)
                self.shapes[back] = shape
                self.opened.add(back)


def _for_any_number(node: fx.Node, shape: Shape) -> None:
    """Let what was traced for one image, and names that number, take any number of images."""
    if spelling(node) in _RESHAPES and node.args and is_tensor(node.args[0]):
        node.op, node.target, node.args, node.kwargs = "call_method", "reshape", (source(node), -1, *shape[1:]), {}
    elif node.op == "call_method" and node.target == "expand" and node.args[1:2] == (1,):
        node.args = (source(node), -1, *node.args[2:])


def _called(node: fx.Node) -> nn.Module | None:
    if node.op != "call_module":
        return None
    return cast(fx.GraphModule, node.graph.owning_module).get_submodule(str(node.target))


def _shift(node: fx.Node, name: str, place: int, default: int | None) -> None:
    """Add one to the axes that a function is given, but for those that are counted from the last one."""
    given: Any = node.args[place] if place < len(node.args) else node.kwargs.get(name, node.kwargs.get("axis", default))
    if given is None:
        raise _unknown(node, "an operation on all images at once")
    axes = [axis + 1 if axis >= 0 else axis for axis in ([given] if isinstance(given, int) else given)]
    options = {key: value for key, value in node.kwargs.items() if key not in (name, "axis")}
    rest = node.args[place + 1 :]
    if rest:
        node.args = (*node.args[:place], axes[0] if isinstance(given, int) else axes, *rest)
    else:
        node.args, options = node.args[:place], options | {name: axes[0] if isinstance(given, int) else axes}
    node.kwargs = options


def _unknown(node: fx.Node, what: str) -> UnsupportedModel:
    return UnsupportedModel(what, where=node.name, fix="keep the images of a batch on the first axis in the forward")
