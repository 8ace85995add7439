"""Settle tensors that are made as large as what they meet."""

from torch import fx

from qface_toolkit.canonical._affine import kind_of
from qface_toolkit.canonical._moves import insert, spelling
from qface_toolkit.canonical.edit import bypass, is_tensor, shape_of, source
from qface_toolkit.canonical.islands import Move

EXPANSIONS = ("expand", "expand_as", "broadcast_to")


def copies_for_expansions(graph_module: fx.GraphModule) -> None:
    """Drop an expansion that arithmetic does by itself, and write any other as joins of copies."""
    for node in list(graph_module.graph.nodes):
        if spelling(node) not in EXPANSIONS or not is_tensor(node) or not is_tensor(node.args[0]):
            continue
        small, large = shape_of(source(node)), shape_of(node)
        if len(small) != len(large) or small[0] != large[0]:
            continue
        if all(_broadcasts(user, node) for user in node.users):
            bypass(node)
            continue
        made = source(node)
        for axis in range(1, len(large)):
            if small[axis] != large[axis]:
                copies = [made] * large[axis]
                made = insert(node, f"{node.name}_copies", Move.of("join", axis=axis), *copies)
        node.replace_all_uses_with(made)


def _broadcasts(user: fx.Node, node: fx.Node) -> bool:
    """Tell whether a reader makes a tensor of a node's size out of another of that size."""
    others = [one for one in user.all_input_nodes if one is not node]
    arithmetic = kind_of(user) in ("add", "sub", "mul", "div")
    return arithmetic and len(others) == 1 and is_tensor(others[0]) and shape_of(others[0]) == shape_of(node)


PASSES = (copies_for_expansions,)
