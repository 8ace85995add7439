"""Read the codes inside a TorchScript archive of ours, by letting the very program that runs return them too."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qface_toolkit.errors import MeasurementError
from qface_toolkit.integer import program as ops
from qface_toolkit.scoring.parity import Codes

_RELUS = ("quantized::conv2d_relu", "quantized::linear_relu", "quantized::add_relu")
_KINDS: Mapping[type[ops.Operation], str] = {
    ops.Image: "aten::quantize_per_tensor",
    ops.Conv: "quantized::conv2d",
    ops.Linear: "quantized::linear",
    ops.Slopes: "quantized::prelu",
    ops.Clip: "aten::hardtanh",
    ops.Table: "aten::quantize_per_tensor",
    ops.MaxPool: "aten::max_pool2d",
    ops.AveragePool: "aten::avg_pool2d",
    ops.GlobalAveragePool: "aten::adaptive_avg_pool2d",
    ops.Flatten: "aten::flatten",
    ops.Add: "quantized::add",
    ops.Mul: "quantized::mul",
    ops.Concat: "aten::cat",
}
"""Operation -> the operator of a frozen graph that makes its value; a ReLU is one kernel with the layer before."""

_MOVES: Mapping[str, str] = {
    "permute": "aten::permute",
    "reshape": "aten::reshape",
    "slice": "aten::slice",
    "pick": "aten::index_select",
    "join": "aten::cat",
    "border": "aten::pad",
    "nearest": "aten::upsample_nearest2d",
}
"""Kind of a move -> its operator."""

_END = (1 << 63) - 1
"""How torch writes the end of a slice that has none."""

_BETWEEN = ("prim::ListConstruct", "aten::contiguous", "aten::dequantize", "aten::sigmoid", "aten::hardsigmoid")
"""What stands between two tensors of codes: lists of them, and functions that torch computes in float."""


def read_torch_codes(
    network: torch.jit.ScriptModule, program: ops.Program, images: npt.NDArray[np.float32]
) -> dict[str, Codes]:
    """Return the codes of every tensor that a loaded archive computes from images [N, C, height, width], in order.

    The engine must be the archive's.

    Raises:
        MeasurementError: if the archive is not this program's, or if reading the codes changes the embeddings.
    """
    graph: Any = network.graph.copy()
    writers = _writers(graph, program)
    values = [next(node.outputs()) for node in dict.fromkeys(writers.values())]
    embedding, *found = _run(network, graph, values, images)
    with torch.inference_mode():
        if not torch.equal(embedding, network(torch.from_numpy(images))):
            raise MeasurementError("the archive computes something else once its tensors are looked at")
    codes = dict(zip(dict.fromkeys(writers.values()), found, strict=True))
    return {name: codes[node].int_repr().numpy() for name, node in writers.items()}


def _writers(graph: Any, program: ops.Program) -> dict[str, Any]:  # noqa: ANN401 - torch ships no type for it
    """Return the node of a frozen graph that writes each tensor, found by what it does and what it reads."""
    known = {*_KINDS.values(), *_MOVES.values(), *_RELUS}
    left = [node for node in graph.nodes() if node.kind() in known and not _takes_all(node)]
    reads = {node: _reads(node) for node in left}
    made, tensors = {one.output: one for one in program.operations}, set(program.tensors)
    found: dict[str, Any] = {}
    for one in program.operations:
        if one.output not in tensors:
            continue
        if isinstance(one, ops.Float):
            found[one.output] = _rounds_island(left, reads, found)
            left.remove(found[one.output])
            continue
        fused = one.source not in tensors if one.sources else False
        sources = [found[source] for source in (made[one.source].sources if fused else one.sources)]
        kinds, wanted = _RELUS if fused else (_kind(one),), {_value(source) for source in sources}
        fitting = [node for node in reads if node.kind() in kinds and (reads[node] == wanted or not wanted)]
        if fitting:  # torch merges what is computed twice
            found[one.output] = next((node for node in left if node in fitting), fitting[0])
            left = [node for node in left if node != found[one.output]]
            if isinstance(one, ops.Move):
                found[one.output] = _rounded_again(found[one.output])
        elif isinstance(one, ops.Clip) and not fused:  # the archive leaves out those that change nothing
            found[one.output] = sources[0]
        else:
            raise MeasurementError(f"the archive has no operator for the tensor {one.output}")
    return found


def _rounds_island(left: list[Any], reads: Mapping[Any, set[str]], found: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return the first node left that rounds what was computed in float: islands come in the program's order.

    Raises:
        MeasurementError: if there is none.
    """
    codes = {_value(node) for node in found.values()}
    for node in left:
        if node.kind() == _KINDS[ops.Image] and not reads[node] <= codes:
            return node
    raise MeasurementError("the archive rounds fewer tensors than there are islands")


def _kind(one: ops.Operation) -> str:
    return _MOVES[one.module.kind] if isinstance(one, ops.Move) else _KINDS[type(one)]


def _takes_all(node: Any) -> bool:  # noqa: ANN401 - as above
    """Tell whether a node is a slice of a whole axis, as indexing of a later axis writes one for each before it."""
    if node.kind() != "aten::slice":
        return False
    start, end, step = (value.toIValue() for value in list(node.inputs())[2:])
    return start in (None, 0) and end in (None, _END) and step == 1


def _rounded_again(node: Any) -> Any:  # noqa: ANN401 - as above
    """Return the node that rounds what a move has moved in float, to the same codes; the move if it moves codes."""
    users = [use.user for use in next(node.outputs()).uses()]
    return users[0] if [user.kind() for user in users] == ["aten::quantize_per_tensor"] else node


def _reads(node: Any) -> set[str]:  # noqa: ANN401 - as above
    """Return the tensors of codes, or the input, that a node of a frozen graph reads."""
    found = set()
    for value in node.inputs():
        if value.node().kind() in _BETWEEN or _takes_all(value.node()):
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
