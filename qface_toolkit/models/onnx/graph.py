"""The FX graph that an ONNX file becomes, as it grows: layers, functions, constants, and moves that leave no trace."""

import keyword
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import fx, nn

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.ends import Image
from qface_toolkit.models.onnx.tensors import Array
from qface_toolkit.models.onnx.views import Activation, columns_of, natural

_MOST_LAYERS = 5_000
_MOST_NUMBERS = 1 << 24
_MOST_NUMBERS_IN_ALL = 1 << 28


@dataclass(frozen=True, eq=False)
class Length:
    """What a node that measures the rows of a tensor along one FX axis measures, and the least that it returns."""

    of: Activation
    dim: int
    least: float = 0.0


class Network:
    """An FX graph under construction.

    `slopes` says of slopes without axes whether they can only be the channels'; those that may also be columns are by
    the letter of ONNX, unless they are `slopes_of_channels` as others of their file are.
    """

    def __init__(self, image: Image, *, opset: int, most_weights: int, slopes_of_channels: bool = False) -> None:
        self.root, self.graph = nn.Module(), fx.Graph()
        self.batch, self.opset = image.batch, opset
        self._weights, self._most_weights = 0, most_weights
        self.image = natural(self.graph.placeholder("input"), (image.channels, *image.size))
        if image.channels_last:
            self.image = replace(self.image, shape=(*image.size, image.channels), order=(1, 2, 0))
        self._names = Counter[str]()
        self._reshaped: dict[fx.Node, Activation] = {}
        self._flattened: dict[fx.Node, Activation] = {}
        self._cuts: dict[fx.Node, tuple[Activation, tuple[tuple[int, int, int], ...]]] = {}
        self._layers, self._numbers = 0, 0
        self.lengths: dict[fx.Node, Length] = {}
        self.expanded: dict[fx.Node, Activation] = {}
        self.slopes_of_channels = slopes_of_channels
        self.slopes: set[bool] = set()

    def layer(self, name: str, module: nn.Module, x: Activation, shape: Sequence[int] | None = None) -> Activation:
        """Call a module; the result has the FX node's own axes in `x`'s order, `shape` if it is not `x`'s."""
        path = self._free_name(name, module)
        self.root.add_module(path, module)
        node = self.graph.call_module(path, (x.node,))
        return self._checked(replace(x, node=node, shape=tuple(x.shape if shape is None else shape)))

    def call(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], like: Activation, **options: fx.node.Argument
    ) -> Activation:
        """Call a function whose result has the shape and order of `like`."""
        return self._checked(replace(like, node=self.graph.call_function(function, arguments, options)))

    def constant(self, name: str, values: Array) -> fx.Node:
        """Return the node that reads these numbers."""
        path = self._free_name(f"{name}_constant", nn.Module())
        self.root.register_buffer(path, self.weights(values))
        return self.graph.get_attr(path)

    def places(self, name: str, values: Array) -> fx.Node:
        """Return the node that reads whole numbers, which say where and not how much."""
        path = self._free_name(f"{name}_places", nn.Module())
        self.root.register_buffer(path, torch.from_numpy(np.array(values, np.int64)))
        return self.graph.get_attr(path)

    def weights(self, values: Array) -> torch.Tensor:
        """Return a copy of a constant as a float32 tensor that no other layer has."""
        self._weights += values.size
        if self._weights > self._most_weights:
            raise CheckpointError(
                "the same weights are used again and again: the network is larger than its file",
                fix="check that the file is what it should be",
            )
        copied = torch.from_numpy(np.array(values, np.float32, order="C"))
        if not bool(torch.isfinite(copied).all()):
            raise CheckpointError("it has weights that are NaN or infinite", fix="export the network again")
        return copied

    def module(self, x: Activation) -> nn.Module | None:
        """Return the module whose output `x` is, if it is one's."""
        return self.root.get_submodule(str(x.node.target)) if x.node.op == "call_module" else None

    def settled(self, x: Activation) -> Activation:
        """Return `x` with its axes in ONNX's order, carried out if need be."""
        if x.columns is not None:
            x = self._put_in_order(x)
        if x.moves == tuple(range(len(x.sizes))):
            return x
        plain = natural(x.node, x.shape, x.place, x.many, leads=x.leads)
        return self.call(torch.permute, (x.node, (0, *(axis + 1 for axis in x.moves))), plain)

    def _put_in_order(self, x: Activation) -> Activation:
        """Carry out the order of a vector's numbers, before it is flattened if nothing else was done since."""
        if x.node in self._flattened:
            return self.reshaped(self.settled(self._flattened[x.node]), x.shape)
        columns = self.places(x.node.name, np.asarray(x.columns))
        return self.call(torch.index_select, (x.node, 1, columns), replace(x, columns=None))

    def aligned(self, one: Activation, other: Activation) -> tuple[Activation, Activation]:
        """Return two tensors with as many axes, in one order and images in one place, as their sizes are compared.

        Raises:
            UnsupportedModel: if the images of one meet something else of the other.
        """
        rank = max(len(one.dims), len(other.dims))
        one, other = (self.settled(x) if x.columns is not None else x for x in (one, other))
        one, other = self.aligned_to(one, rank), self.aligned_to(other, rank)
        one, other = self.with_images(one, other.place), self.with_images(other, one.place)
        if (one.place, one.many, one.leads) != (other.place, other.many, other.leads):
            raise UnsupportedModel(f"it joins {one.shown()} and {other.shown()}, whose images stand at different axes")
        return self._in_one_order(one, other)

    def _in_one_order(self, one: Activation, other: Activation) -> tuple[Activation, Activation]:
        """Return two tensors with their axes in one order: the smaller is moved, a gate rather than a picture."""
        if one.many > 1 or math.prod(one.shape) == math.prod(other.shape):
            return self.settled(one), self.settled(other)
        if math.prod(one.shape) < math.prod(other.shape):
            return self._laid_out(one, other), other
        return one, self._laid_out(other, one)

    def _laid_out(self, x: Activation, like: Activation) -> Activation:
        """Return a tensor whose FX node has its axes where another tensor's has them."""
        moves = [x.order[part] for part in np.argsort(like.order)]
        sizes = [x.sizes[axis] for axis in moves]
        if sorted(axis for axis in moves if x.sizes[axis] != 1) == [axis for axis in moves if x.sizes[axis] != 1]:
            made = self.reshaped(natural(x.node, x.sizes, x.place), sizes, x.place)
        else:
            turned = natural(x.node, tuple(sizes), x.place)
            made = self.call(torch.permute, (x.node, (0, *(axis + 1 for axis in moves))), turned)
        return replace(made, shape=x.shape, order=like.order)

    def aligned_to(self, x: Activation, rank: int) -> Activation:
        """Return a tensor with axes of size one put before its own, as ONNX does to compare sizes."""
        missing = rank - len(x.dims)
        place = None if x.place is None else x.place + missing
        return self.reshaped(x, (1,) * missing + x.shape, place, x.many, leads=x.leads) if missing > 0 else x

    def with_images(self, x: Activation, place: int | None) -> Activation:
        """Give a tensor of a file for one image its axis of images back, where it has one of size one."""
        if x.place is not None or place is None or x.shape[place] != 1:
            return x
        return self.reshaped(x, x.shape[:place] + x.shape[place + 1 :], place)

    def before(self, x: Activation) -> Activation:
        """Return what the module that made `x` was called on, element by element."""
        return replace(x, node=cast(fx.Node, x.node.args[0]))

    def reshaped(
        self, x: Activation, shape: Sequence[int], place: int | None = 0, many: int = 1, *, leads: bool = False
    ) -> Activation:
        """Return each image's numbers in another shape of as many; shapes in between leave no trace."""
        wanted = natural(x.node, tuple(shape), place, many, leads=leads)
        if math.prod(wanted.sizes) != math.prod(x.sizes):
            raise CheckpointError(f"it gives {x.shown()} the shape {wanted.shown()}, which holds another count")
        one_axis = len(wanted.sizes) == 1
        if x.columns is not None and one_axis:
            return replace(wanted, columns=x.columns)
        if not x.in_order:
            if one_axis and wanted.plain:
                flat = self.call(torch.flatten, (x.node, 1), wanted)
                self._flattened[flat.node] = x
                return replace(flat, columns=columns_of(x))
            x = self.settled(x)
        before = self._reshaped.get(x.node, x)
        if before.sizes == wanted.sizes:
            return replace(wanted, node=before.node)
        shaping = (torch.flatten, 1) if one_axis else (torch.reshape, (-1, *wanted.sizes))
        made = self.call(shaping[0], (before.node, shaping[1]), wanted)
        self._reshaped[made.node] = before
        return made

    def cut(self, x: Activation, ranges: Sequence[tuple[int, int, int]]) -> Activation:
        """Return the part of each image within (first, behind the last, step) along each axis of the FX node."""
        whole, before = self._cuts.get(x.node, (x, ()))
        if before and all(step == 1 for _, _, step in (*before, *ranges)):
            ranges = [(b + first, b + last, 1) for (b, _, _), (first, last, _) in zip(before, ranges, strict=True)]
        else:
            whole = x
        index = (slice(None), *map(_slice, ranges, whole.sizes))
        counts = [len(range(*span)) for span in ranges]
        result = replace(x, shape=tuple(counts[axis] for axis in x.order))
        made = self.call(operator.getitem, (whole.node, index), result)
        self._cuts[made.node] = (whole, tuple(ranges))
        return made

    def spans(self, x: Activation) -> list[tuple[int, int, int]]:
        """Return what `cut` takes for all of a tensor."""
        return [(0, size, 1) for size in x.sizes]

    def finish(self, output: Activation) -> fx.GraphModule:
        """Return the network that ends with this output."""
        self.graph.output(output.node)
        network = fx.GraphModule(self.root, self.graph)
        network.graph.eliminate_dead_code()
        network.delete_all_unused_submodules()
        network.recompile()
        return network.eval()

    def _checked(self, x: Activation) -> Activation:
        """Refuse what would take more memory or time to run than any face network."""
        count = math.prod(x.shape)
        self._layers += 1
        self._numbers += count
        if min(x.shape, default=1) < 1:
            raise CheckpointError(f"nothing is left of the image: it makes the shape {list(x.shape)}")
        if count > _MOST_NUMBERS or self._numbers > _MOST_NUMBERS_IN_ALL or self._layers > _MOST_LAYERS:
            raise CheckpointError(
                f"the network grows beyond any face network: {count} numbers here, {self._numbers} in "
                f"{self._layers} layers so far, for one image",
                fix="check that the file is what it should be",
            )
        return x

    def _free_name(self, name: str, module: nn.Module) -> str:
        """Return an attribute's name, close to the ONNX node's, that is neither taken nor Python's."""
        plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:60].rstrip("_")
        if not plain or plain[0].isdigit() or keyword.iskeyword(plain) or hasattr(fx.GraphModule, plain):
            plain = f"{type(module).__name__.lower()}_{plain}".rstrip("_")
        free = plain
        while hasattr(self.root, free):
            self._names[plain] += 1
            free = f"{plain}_{self._names[plain]}"
        return free


def _slice(span: tuple[int, int, int], size: int) -> slice:
    first, last, step = span
    return slice(first or None, None if last >= size else last, None if step == 1 else step)
