"""Turn any float network into one small set of operations, so that methods and backends meet no surprises.

The canonical form computes the same function. It holds no BatchNorm (a statistic that does not exist cannot move
while fine-tuning) and no slope outside [-1, 1], and nothing but these:

    Conv2d  Linear  PReLU  ReLU  ReLU6  Sigmoid  Hardsigmoid  MaxPool2d  AvgPool2d  AdaptiveAvgPool2d(1)
    add  mul  cat  flatten  normalize (at the end alone)

and, where integers have no form of it, islands in float and moves (see islands).
"""

import copy

from torch import fx, nn

from qface_toolkit.canonical import (
    _affine,
    _attention,
    _constant_rows,
    _constants,
    _expansions,
    _fold,
    _gates,
    _islands,
    _layouts,
    _module_parts,
    _normalise,
    _padding,
    _prelu,
    _spelled_norms,
    _spellings,
    _tail,
    _windows,
)
from qface_toolkit.canonical._batches import batches_first
from qface_toolkit.canonical._tracing import FOR_ONE, trace
from qface_toolkit.canonical.edit import propagate_shapes
from qface_toolkit.canonical.graph import check_operations

_PASSES = tuple(
    rewrite
    for stage in (
        _constants,
        _constant_rows,
        _module_parts,
        _spellings,
        _spelled_norms,
        _normalise,
        _attention,
        _layouts,
        _padding,
        _affine,
        _expansions,
        _gates,
        _tail,
        _windows,
        _islands,
        _fold,
        _prelu,
    )
    for rewrite in stage.PASSES
)


def canonicalise(network: nn.Module, input_size: tuple[int, int], channels: int = 3) -> fx.GraphModule:
    """Return the canonical form of a float network that eats [N, channels, height, width]; the network is left alone.

    Raises:
        UnsupportedModel: naming the node if the network cannot be traced or holds an operation outside the set.
    """
    graph_module = trace(copy.deepcopy(network).eval().float(), (channels, *input_size))
    batches_first(graph_module, input_size, channels, single=FOR_ONE in graph_module.meta)
    propagate_shapes(graph_module, input_size, channels)
    for rewrite in _PASSES:
        before = str(graph_module.graph)
        rewrite(graph_module)
        if str(graph_module.graph) == before:
            continue  # the shapes still hold, and finding them is what takes the time here
        graph_module.graph.eliminate_dead_code()
        graph_module.delete_all_unused_submodules()
        graph_module.recompile()
        propagate_shapes(graph_module, input_size, channels)
    check_operations(graph_module)
    _drop_unused(graph_module)
    for parameter in graph_module.parameters():
        parameter.requires_grad_(True)
    return graph_module


def _drop_unused(graph_module: fx.GraphModule) -> None:
    """Delete parameters and buffers that no operation reads any more: a passage has made modules of them."""
    called = tuple(f"{node.target}." for node in graph_module.graph.nodes if node.op == "call_module")
    read = {str(node.target) for node in graph_module.graph.nodes if node.op == "get_attr"}
    for name in list(graph_module.state_dict(keep_vars=True)):
        if name not in read and not name.startswith(called):
            owner, _, attribute = name.rpartition(".")
            delattr(graph_module.get_submodule(owner), attribute)
