"""Write convolutions of groups in the forms that the model gives them (see quantize.groups); all make the same sums.

An interleaved convolution wants its channels in another order. What lies around it up to the next dense layers works on
each channel by itself and computes the same in any order, and the dense layers take the order into their weights. Where
somebody else reads what lies between, the channels are moved in the graph, in front of the convolution or behind it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from qface_toolkit.backends.onnx_qdq._builder import GraphBuilder
from qface_toolkit.integer import program as ops
from qface_toolkit.quantize.groups import GroupForm

Order = npt.NDArray[np.intp]
"""The channel of the network at each place."""
Layer = ops.Conv | ops.Twin

_ALONE = (ops.Scale, ops.Max, ops.Clip, ops.Table, ops.Requantize, ops.Same)
"""What works on each number, or each channel, by itself."""


@dataclass(frozen=True)
class Fold(ops.Operation):
    """Channels side by side in a row, [N, C, H, W] to [N, groups, H, W * C / groups]; `shape` is (C, H, W).

    With `turned` the first channels of all groups come first, then the second ones, and so on.
    """

    groups: int
    shape: tuple[int, int, int]
    turned: bool


@dataclass(frozen=True)
class Join(ops.Operation):
    """The outputs of interleaved parts behind one another, [N, C, H, W]; put in the network's order unless `turned`."""

    groups: int
    shape: tuple[int, int, int]
    turned: bool


def regrouped(program: ops.Program, forms: Mapping[str, GroupForm]) -> tuple[ops.Program, frozenset[str]]:
    """Return a program with its convolutions of groups in these forms, and the values whose channels are in turn."""
    wiring = _Wiring(program, forms)
    operations = tuple(part for one in program.operations for part in _written(one, wiring))
    made = {part.output: wiring.shape(one) for one in wiring.interleaved for part in _parts(one, "")}
    turned = frozenset(wiring.orders)
    return replace(program, operations=operations, shapes={**program.shapes, **made}), turned


def _written(one: ops.Operation, wiring: "_Wiring") -> Iterator[ops.Operation]:
    """Yield what an operation becomes."""
    if isinstance(one, ops.Scale) and one.output in wiring.orders:
        order = wiring.orders[one.output]
        yield replace(one, codes=one.codes[order], scales=one.scales[order])
    elif not isinstance(one, Layer):
        yield one
    elif wiring.form(one).interleaved:
        yield from _interleaved(one, wiring)
    else:
        yield _ordered(replace(one, window=replace(one.window, together=wiring.form(one).together)), wiring.orders)


def _interleaved(one: Layer, wiring: "_Wiring") -> Iterator[ops.Operation]:
    fold, groups, source = one.constants.codes.shape[1], one.window.groups, one.source
    if fold > 1:
        shape = cast(tuple[int, int, int], wiring.program.shapes[wiring.tensor(source)][1:])
        source = f"{one.output}.folded"
        yield Fold(source, one.sources, wiring.grids[one.source], groups, shape, one.source in wiring.orders)
    parts = list(_parts(one, source))
    yield from parts
    outputs, (_, *sizes) = tuple(part.output for part in parts), wiring.shape(one)
    joined = cast(tuple[int, int, int], (len(parts) * groups, *sizes[1:]))
    yield Join(one.output, outputs, one.grid, groups, joined, one.output in wiring.orders)


def _parts(one: Layer, source: str) -> Iterator[Layer]:
    """Yield the depthwise convolutions that an interleaved one becomes, one for each output channel of a group."""
    window, (outputs, fold, height, width) = one.window, one.constants.codes.shape
    wide = replace(
        window,
        stride=(window.stride[0], window.stride[1] * fold),
        padding=(window.padding[0], window.padding[1] * fold),
    )
    for place, channels in enumerate(np.arange(outputs).reshape(window.groups, -1).T):
        part = _picked(one, channels)
        codes = part.constants.codes.transpose(0, 2, 3, 1).reshape(window.groups, 1, height, width * fold)
        constants = replace(part.constants, codes=np.ascontiguousarray(codes))
        yield replace(part, output=f"{one.output}.{place}", sources=(source,), constants=constants, window=wide)


def _ordered(one: Layer, orders: Mapping[str, Order]) -> Layer:
    """Return a convolution whose weights fit the orders of what it reads and makes."""
    if one.window.groups == 1 and one.source in orders:
        codes = np.ascontiguousarray(one.constants.codes[:, orders[one.source]])
        one = replace(one, constants=replace(one.constants, codes=codes))
    return _picked(one, orders[one.output]) if one.output in orders else one


def _picked(one: Layer, channels: Order) -> Layer:
    """Return a convolution that makes these output channels."""
    held = one.constants
    constants = replace(held, codes=held.codes[channels], scales=held.scales[channels], bias=held.bias[channels])
    if isinstance(one, ops.Twin):
        return replace(one, constants=constants, slopes=one.slopes[channels])
    return replace(one, constants=constants)


class _Wiring:
    """What makes each value and what reads it, and the orders of channels that the forms give rise to."""

    def __init__(self, program: ops.Program, forms: Mapping[str, GroupForm]) -> None:
        self.program, self.forms, self.grids = program, forms, program.grids
        self.maker = {one.output: one for one in program.operations}
        self.readers: dict[str, list[ops.Operation]] = {}
        for one in program.operations:
            for source in one.sources:
                self.readers.setdefault(source, []).append(one)
        self.interleaved = [one for one in program.operations if isinstance(one, Layer) and self.form(one).interleaved]
        self.orders: dict[str, Order] = {}
        for one in self.interleaved:
            channels = len(one.constants.codes)
            self._turn(self._before(one), one.constants.codes.shape[1] * one.window.groups, one.window.groups)
            self._turn(self._behind(one), channels, one.window.groups)

    def form(self, one: Layer) -> GroupForm:
        """Return the form of a convolution; one that makes floats is no integer kernel, and stays as it is."""
        found = self.forms.get(one.layer if isinstance(one, ops.Twin) else one.output, GroupForm())
        return GroupForm() if found.interleaved and one.grid is None else found

    def tensor(self, value: str) -> str:
        """Return a tensor of the network that has the shape of a value between two of them."""
        while value not in self.program.shapes:
            value = self.maker[value].source
        return value

    def shape(self, one: Layer) -> tuple[int, ...]:
        """Return the shape of a part of an interleaved convolution, for a batch of two."""
        return (2, one.window.groups, *self.program.shapes[one.output][2:])

    def _turn(self, values: set[str] | None, channels: int, groups: int) -> None:
        if values is not None and not values & self.orders.keys() and 1 < groups < channels:
            order = cast(Order, np.arange(channels).reshape(groups, -1).T.reshape(-1))
            self.orders |= dict.fromkeys(values, order)

    def _before(self, reader: Layer) -> set[str] | None:
        """Return the values between the dense layers in front and an interleaved convolution; None if others read."""
        found, waiting = set[str](), [reader.source]
        while waiting:
            found.add(name := waiting.pop())
            one = self.maker[name]
            if _alone(one):
                waiting += [source for source in one.sources if source not in found]
            elif not _dense(one):
                return None
        free = all(one is reader or one.output in found for name in found for one in self.readers[name])
        return found if free and self.program.embedding not in found else None

    def _behind(self, one: Layer) -> set[str] | None:
        """Return the values between an interleaved convolution and the dense layers behind; None if others read."""
        found, waiting = set[str](), [one.output]
        while waiting:
            found.add(name := waiting.pop())
            for reader in self.readers.get(name, ()):
                if _alone(reader):
                    waiting += [reader.output] if reader.output not in found else []
                elif not _dense(reader):
                    return None
        whole = all(source in found for name in found - {one.output} for source in self.maker[name].sources)
        return found if whole and self.program.embedding not in found else None


def _alone(one: ops.Operation) -> bool:
    """Tell whether an operation on codes works on each channel by itself, so that any order will do."""
    return one.grid is not None and (isinstance(one, _ALONE) or (isinstance(one, Layer) and _depthwise(one)))


def _depthwise(one: Layer) -> bool:
    return 1 < one.window.groups == len(one.constants.codes) and one.constants.codes.shape[1] == 1


def _dense(one: ops.Operation) -> bool:
    return isinstance(one, Layer) and one.window.groups == 1


def print_fold(printer: Any, one: Fold) -> None:  # noqa: ANN401 - a printer of programs, which knows this file
    """Print the moves of a Fold; turned, they cost nothing where the runtime has channels last."""
    graph, codes, (channels, height, width) = printer.graph, printer.codes[one.source], one.shape
    fold = channels // one.groups
    if one.turned:
        last = graph.node("Transpose", [codes], perm=[0, 2, 3, 1])
        rows = graph.node("Reshape", [last, _sizes(graph, height, width * fold, one.groups)])
        printer.keep(one, graph.node("Transpose", [rows], perm=[0, 3, 1, 2]))
        return
    apart = graph.node("Reshape", [codes, _sizes(graph, one.groups, fold, height, width)])
    turned = graph.node("Transpose", [apart], perm=[0, 1, 3, 4, 2])
    printer.keep(one, graph.node("Reshape", [turned, _sizes(graph, one.groups, height, width * fold)]))


def print_join(printer: Any, one: Join) -> None:  # noqa: ANN401 - a printer of programs, which knows this file
    """Print the outputs behind one another."""
    graph, codes = printer.graph, [printer.codes[source] for source in one.sources]
    joined = graph.node("Concat", codes, axis=1) if len(codes) > 1 else codes[0]
    if one.turned or len(codes) == 1:
        printer.keep(one, joined)
        return
    channels, height, width = one.shape
    apart = graph.node("Reshape", [joined, _sizes(graph, len(codes), one.groups, height * width)])
    turned = graph.node("Transpose", [apart], perm=[0, 2, 1, 3])
    printer.keep(one, graph.node("Reshape", [turned, _sizes(graph, channels, height, width)]))


def _sizes(graph: GraphBuilder, *sizes: int) -> str:
    return graph.constant([0, *sizes], np.int64)
