"""A network in blocks, each simulated and in float: what reconstruction learns one after the other.

Blocks are cut where exactly one tensor is alive, so that a residual unit stays whole and a block is a function of one
tensor (BRECQ, arXiv 2102.05426, section 3.2, calls these the basic units).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import fx

from qface_toolkit.canonical.graph import operation
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.quantize.quantizers import ActivationQuantizer


@dataclass(frozen=True)
class Block:
    """A part of a network that reads one tensor and makes another.

    `simulated` shares its modules with the simulation, `exact` with the canonical network. `output` names the tensor
    that the block makes, or is None for the embedding. `layers` are the paths of its layers, `quantizers` those of the
    quantizers of each of the plan's tensors that the block makes.
    """

    simulated: fx.GraphModule
    exact: fx.GraphModule
    output: str | None
    layers: tuple[str, ...]
    quantizers: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class _Cut:
    """A tensor behind which both networks can be cut, and the places of the first nodes behind it."""

    tensor: str | None
    simulated: int
    exact: int


def cut_blocks(model: QuantizedModel, prepared: fx.GraphModule, fewest_layers: int) -> list[Block]:
    """Cut a model and its simulation (`prepare(...).prepared`) into blocks of so many layers at least.

    The last block has what is left, one layer at least.
    """
    simulated, exact = list(prepared.graph.nodes), list(model.network.graph.nodes)
    quantizers = _quantizers(model, prepared)
    calls = [str(node.target) if operation(node) in LAYERS else None for node in exact]
    blocks: list[Block] = []
    start = _Cut(None, 0, 0)
    for cut in [*_shared_cuts(simulated, exact, quantizers), _Cut(None, len(simulated) - 1, len(exact) - 1)]:
        inside = tuple(call for call in calls[start.exact : cut.exact] if call)
        left = [call for call in calls[cut.exact :] if call]
        if cut.tensor is not None and (len(inside) < fewest_layers or not left):
            continue
        nodes = simulated[start.simulated : cut.simulated]
        paths = {name: tuple(str(one.target) for one in found if one in nodes) for name, found in quantizers.items()}
        blocks.append(
            Block(
                _part(prepared, nodes),
                _part(model.network, exact[start.exact : cut.exact]),
                cut.tensor,
                inside,
                {name: found for name, found in paths.items() if found},
            )
        )
        start = cut
    return blocks


def _quantizers(model: QuantizedModel, prepared: fx.GraphModule) -> dict[str, list[fx.Node]]:
    """Return the quantizers of each of the plan's tensors; FX and the plan have them in the same order."""
    found: dict[fx.Node, list[fx.Node]] = {}
    for node in prepared.graph.nodes:
        if node.op == "call_module" and isinstance(prepared.get_submodule(str(node.target)), ActivationQuantizer):
            found.setdefault(cast(fx.Node, node.args[0]), []).append(node)
    return dict(zip(model.plan.tensors, found.values(), strict=True))


def _shared_cuts(
    simulated: Sequence[fx.Node], exact: Sequence[fx.Node], quantizers: Mapping[str, Sequence[fx.Node]]
) -> Iterator[_Cut]:
    here, there = _cuts(simulated), _cuts(exact)
    for name, nodes in quantizers.items():
        if name in there and nodes[-1].name in here:
            yield _Cut(name, here[nodes[-1].name], there[name])


def _cuts(nodes: Sequence[fx.Node]) -> dict[str, int]:
    """Return the nodes behind which nothing else is alive, with the place behind each."""
    places = {node: place for place, node in enumerate(nodes)}
    last = {node: max((places[user] for user in node.users), default=-1) for node in nodes}
    alive: list[fx.Node] = []
    found = {}
    for place, node in enumerate(nodes[:-1]):
        alive = [one for one in (*alive, node) if last[one] > place]
        if alive == [node]:
            found[node.name] = place + 1
    return found


def _part(network: fx.GraphModule, nodes: Sequence[fx.Node]) -> fx.GraphModule:
    """Return some consecutive nodes as a network of its own, which shares its modules."""
    graph, made = fx.Graph(), dict[fx.Node, fx.Node]()
    sources = dict.fromkeys(source for node in nodes for source in node.all_input_nodes)
    for source in sources:
        if source not in nodes:
            made[source] = graph.placeholder(source.name)
    for node in nodes:
        made[node] = graph.node_copy(node, made.__getitem__)
    graph.output(made[nodes[-1]])
    return fx.GraphModule(network, graph)
