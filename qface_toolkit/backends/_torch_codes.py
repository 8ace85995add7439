"""Read the codes inside a TorchScript archive of ours, by letting the very program that runs return them too."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from qface_toolkit.canonical.graph import inputs, operation
from qface_toolkit.errors import MeasurementError
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.scoring.parity import Codes

_LAYERS = ("quantized::conv2d", "quantized::linear")
_KINDS: Mapping[str, tuple[str, ...]] = {
    "input": ("aten::quantize_per_tensor",),
    "conv": _LAYERS[:1],
    "linear": _LAYERS[1:],
    "prelu": ("quantized::prelu",),
    "relu": (*(f"{layer}_relu" for layer in _LAYERS), "quantized::add_relu"),
    "relu6": ("aten::hardtanh",),
    "sigmoid": ("aten::quantize_per_tensor",),
    "hard_sigmoid": ("aten::quantize_per_tensor",),
    "max_pool": ("aten::max_pool2d",),
    "average_pool": ("aten::avg_pool2d",),
    "global_average_pool": ("aten::adaptive_avg_pool2d",),
    "flatten": ("aten::flatten",),
    "add": ("quantized::add",),
    "mul": ("quantized::mul",),
    "concat": ("aten::cat",),
}
"""Canonical operation -> the operators of a frozen graph that write its tensor; a ReLU belongs to the layer before."""

_BETWEEN = ("prim::ListConstruct", "aten::contiguous", "aten::dequantize", "aten::sigmoid", "aten::hardsigmoid")
"""What stands between two tensors of codes: lists of them, and functions that torch computes in float."""


def read_torch_codes(
    network: torch.jit.ScriptModule, model: QuantizedModel, images: npt.NDArray[np.float32]
) -> dict[str, Codes]:
    """Return the codes of every tensor that a loaded archive computes from images [N, 3, height, width], in order.

    The engine must be the archive's.

    Raises:
        MeasurementError: if the archive is not this model's, or if reading the codes changes the embeddings.
    """
    graph: Any = network.graph.copy()
    writers = _writers(graph, model)
    values = [next(node.outputs()) for node in dict.fromkeys(writers.values())]
    embedding, *found = _run(network, graph, values, images)
    with torch.inference_mode():
        if not torch.equal(embedding, network(torch.from_numpy(images))):
            raise MeasurementError("the archive computes something else once its tensors are looked at")
    codes = dict(zip(dict.fromkeys(writers.values()), found, strict=True))
    return {name: codes[node].int_repr().numpy() for name, node in writers.items()}


def _writers(graph: Any, model: QuantizedModel) -> dict[str, Any]:  # noqa: ANN401 - torch ships no type for it
    """Return the node of a frozen graph that writes each tensor, found by what it does and what it reads."""
    known = {kind for kinds in _KINDS.values() for kind in kinds}
    left = [node for node in graph.nodes() if node.kind() in known]
    reads = {node: _reads(node) for node in left}
    found: dict[str, Any] = {}
    for node in model.network.graph.nodes:
        if not model.plan.quantized(node.name, "torch"):
            continue
        name, sources = str(operation(node)), [found[source.name] for source in _sources(node, found)]
        wanted = {_value(source) for source in sources}
        fitting = [one for one in reads if one.kind() in _KINDS[name] and (reads[one] == wanted or not wanted)]
        if fitting:  # torch merges what is computed twice
            found[node.name] = next((one for one in left if one in fitting), fitting[0])
            left = [one for one in left if one != found[node.name]]
        elif name == "relu6":  # the archive leaves out those that change nothing
            found[node.name] = sources[0]
        else:
            raise MeasurementError(f"the archive has no operator for the tensor {node.name}")
    return found


def _sources(node: fx.Node, found: Mapping[str, Any]) -> list[fx.Node]:
    """Return the tensors that the kernel behind a node reads: those before the layer that a ReLU is one kernel with."""
    sources = inputs(node)
    return sources if all(source.name in found for source in sources) else inputs(sources[0])


def _reads(node: Any) -> set[str]:  # noqa: ANN401 - as above
    """Return the tensors of codes, or the input, that a node of a frozen graph reads."""
    found = set()
    for value in node.inputs():
        if value.node().kind() in _BETWEEN:
            found |= _reads(value.node())
        elif value.type().kind() == "TensorType" and value.node().kind() != "prim::Constant":
            found.add(value.debugName())
    return found


def _value(node: Any) -> str:  # noqa: ANN401 - as above
    return str(next(node.outputs()).debugName())


def _run(
    network: torch.jit.ScriptModule,
    graph: Any,  # noqa: ANN401 - torch ships no type for it
    values: list[Any],
    images: npt.NDArray[np.float32],
) -> tuple[torch.Tensor, ...]:
    """Return the embeddings and these values of a graph."""
    returned = [*graph.outputs(), *values]
    together = graph.create("prim::TupleConstruct", returned, 1)
    graph.appendNode(together)
    together.output().setType(torch._C.TupleType([value.type() for value in returned]))
    graph.eraseOutput(0)
    graph.registerOutput(together.output())
    run: Any = torch._C._create_function_from_graph("read_codes", graph)
    with torch.inference_mode():
        results: tuple[torch.Tensor, ...] = run(network._c, torch.from_numpy(images))
    return results
