"""Write down as a graph what a network's forward does, also where it asks for sizes on the way.

torch.fx traces with tensors that are nothing but names. Where that fails, because the forward computes with sizes or
branches on them, it is traced once more with tensors that know their sizes: two runs of different batch size tell which
sizes are constants and which follow the batch.
"""

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from qface_toolkit.errors import UnsupportedModel
from qface_toolkit.models import line_of

FOR_ONE = "for one image"
"""What stands in the `meta` of a graph that computes a batch of one image and no other."""

_BATCHES = (2, 3)
_ERRORS = (fx.proxy.TraceError, RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError)

Values = tuple[Any, ...]
"""What a node computes, one value for each run."""


def trace(network: nn.Module, shape: tuple[int, ...]) -> fx.GraphModule:
    """Return the graph of a network that takes images [N, *shape].

    Raises:
        UnsupportedModel: naming the line of the network's code that cannot be traced.
    """
    name = type(network).__name__
    try:
        return fx.GraphModule(network, ImageTracer().trace(network), name)
    except _ERRORS:
        pass
    try:
        return fx.GraphModule(network, SizedTracer(shape).trace(network), name)
    except _ERRORS as error:
        for_one = _traced_for_one(network, shape)
        if for_one is not None:
            return for_one
        reason = str(error).partition(". ")[0].partition("\n")[0]
        raise UnsupportedModel(
            f"the network's forward cannot be traced: {reason}",
            where=line_of(error) or name,
            fix="remove control flow that depends on tensor values, or pass the backbone alone",
        ) from error


def _traced_for_one(network: nn.Module, shape: tuple[int, ...]) -> fx.GraphModule | None:
    """Return the graph for a single image, of networks whose code needs the number of images as a number."""
    try:
        graph_module = fx.GraphModule(network, SizedTracer(shape, (1,)).trace(network), type(network).__name__)
    except _ERRORS:
        return None
    graph_module.meta[FOR_ONE] = True
    return graph_module


class ImageTracer(fx.Tracer):
    """A tracer of networks that are given an image and nothing else.

    torch.fx takes every argument of a forward for an input, so that `if label is None` would go the other way.
    """

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: object = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Return the forward and what it is called with: the image; other arguments have their defaults."""
        name = next(iter(inspect.signature(self.root.forward).parameters), "x")
        kind = getattr(inspect.unwrap(root_fn), "__annotations__", {}).get(name)
        return root_fn, [self.root, self.create_proxy("placeholder", name, (), {}, type_expr=kind)]


class SizedTracer(ImageTracer):
    """A tracer that also runs every operation, once for each batch size."""

    def __init__(self, shape: tuple[int, ...], batches: tuple[int, ...] = _BATCHES) -> None:
        super().__init__()
        self._images = tuple(torch.zeros(batch, *shape) for batch in batches)
        self._values: dict[fx.Node, Values] = {}
        self._running = False

    def proxy(self, node: fx.Node) -> "Sized":
        """Return the tensor that stands for what a node computes."""
        return Sized(node, self)

    def values(self, node: fx.Node) -> Values:
        """Return what a node computes in each run."""
        if node not in self._values:
            self._values[node] = tuple(self._run(node, run) for run in range(len(self._images)))
        return self._values[node]

    def create_proxy(self, *args: Any, **kwargs: Any) -> fx.Proxy:  # noqa: ANN401 - as the base class has it
        """Add an operation and run it at once, so that it fails where it is written."""
        proxy = super().create_proxy(*args, **kwargs)
        self.values(proxy.node)
        return proxy

    def _run(self, node: fx.Node, run: int) -> Any:  # noqa: ANN401 - any operation
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda before: self.values(before)[run])
        running, self._running = self._running, True
        try:
            with torch.no_grad():
                return self._computed(node, run, args, kwargs)
        finally:
            self._running = running

    def _computed(self, node: fx.Node, run: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401
        if node.op == "placeholder":
            return self._images[run]
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.root)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        function: Any = self.root.get_submodule(str(node.target)) if node.op == "call_module" else node.target
        return args[0] if node.op == "output" else function(*args, **kwargs)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401 - as the base class has it
        """Trace a module's call, or run it while a value is computed."""
        return forward(*args, **kwargs) if self._running else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:  # noqa: ANN401
        """Return a parameter's name in the graph, or the parameter while a value is computed."""
        return attr_val if self._running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Return the truth of what is no tensor and the same in every run."""
        return bool(self._constant(obj.node, "a branch that depends on the images' values or number"))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Iterate over a sequence, or over a tensor's first axis, of constant length."""
        first, *others = (len(value) for value in self.values(obj.node))
        if any(other != first for other in others):
            raise fx.proxy.TraceError("a loop over the images of a batch")
        sequence: Any = obj
        return (sequence[place] for place in range(first))

    def number(self, node: fx.Node) -> Any:  # noqa: ANN401 - a number of any type
        """Return the number that a node always computes."""
        return self._constant(node, "a number that depends on the images' values or number")

    def _constant(self, node: fx.Node, what: str) -> Any:  # noqa: ANN401 - of any type
        first, *others = self.values(node)
        if isinstance(first, Tensor) or any(other != first for other in others):
            raise fx.proxy.TraceError(what)
        return first


class Sized(fx.Proxy):
    """A tensor, or a number made of sizes, that knows what of it does not depend on the batch."""

    tracer: SizedTracer

    @property
    def shape(self) -> Any:  # noqa: ANN401 - of a tensor, a tuple of numbers and what stands for numbers
        """The sizes: numbers where they are constant."""
        first, *others = self.tracer.values(self.node)
        return tuple(
            size if all(other.shape[axis] == size for other in others) else self._at_run_time(axis)
            for axis, size in enumerate(first.shape)
        )

    def _at_run_time(self, axis: int) -> fx.Proxy:
        return self.tracer.create_proxy("call_method", "size", (self, axis), {})

    def size(self, dim: int | None = None) -> Any:  # noqa: ANN401 - as `shape`
        """Return the sizes, or one of them."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """Return how many axes there are."""
        return int(self.tracer.values(self.node)[0].dim())

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return self.dim()

    @property
    def device(self) -> Any:  # noqa: ANN401 - a torch.device
        """Where the tensor is."""
        return self.tracer.values(self.node)[0].device

    @property
    def dtype(self) -> Any:  # noqa: ANN401 - a torch.dtype
        """The type of its numbers."""
        return self.tracer.values(self.node)[0].dtype

    def __index__(self) -> int:
        """Return a number where Python needs one."""
        return int(self.tracer.number(self.node))

    __int__ = __index__

    def __float__(self) -> float:
        """Return a number where Python needs one."""
        return float(self.tracer.number(self.node))

    def __len__(self) -> int:
        """Return the length of a sequence or of the first axis, where it is constant."""
        first, *others = (len(value) for value in self.tracer.values(self.node))
        if any(other != first for other in others):
            raise fx.proxy.TraceError("the number of images in a batch")
        return first
