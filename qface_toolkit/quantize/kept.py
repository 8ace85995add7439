"""Which operations of an ONNX form compute in float because layers are kept in float, and what is then not rounded.

The unit that a person names is a layer: a convolution or linear layer. A kept layer computes in float with its float
weights, on whatever its input tensor is. What follows it up to the next layers (activations, pools, additions) computes
in float too, as long as one of the tensors that it reads is not rounded. A tensor is rounded unless it is made in float
and everybody who reads it computes in float: integer kernels read codes, and a tensor has one value for all.
"""

from collections.abc import Collection

from torch import fx

from qface_toolkit.canonical.graph import inputs, operation

LAYERS = ("conv", "linear")
_ENDS = ("output", "normalize")
"""They read the embedding, in float whatever it is."""


def nodes_in_float(network: fx.GraphModule, kept: Collection[str]) -> frozenset[str]:
    """Return the names of the operations that compute in float if these layers do; a shared module is kept as one."""
    nodes = list(network.graph.nodes)
    modules = {str(node.target) for node in nodes if node.name in kept}
    layers = {node.name for node in nodes if operation(node) in LAYERS and str(node.target) in modules}
    behind = [node for node in nodes if operation(node) not in (*LAYERS, *_ENDS)]
    floats = set(layers)
    for node in behind:
        if any(source.name in floats for source in inputs(node)):
            floats.add(node.name)
    while lost := {node.name for node in behind if node.name in floats and not _reads_float(node, floats)}:
        floats -= lost
    return frozenset(floats)


def stays_float(node: fx.Node, floats: Collection[str]) -> bool:
    """Tell whether nobody rounds a node's output if these operations compute in float; the image itself is float."""
    made = node.name in floats or operation(node) == "input"
    return made and all(user.name in floats or operation(user) in _ENDS for user in node.users)


def _reads_float(node: fx.Node, floats: Collection[str]) -> bool:
    return any(source.name in floats and stays_float(source, floats) for source in inputs(node))
