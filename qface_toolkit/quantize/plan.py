"""Which tensors carry a range, for which target: made once from a canonical network, read by methods and backends.

torch's engines quantize every tensor that passes between two operations. The ONNX form writes each PReLU in one of two
ways, which differ in what is quantized before it, and leaves the embedding float; which way is chosen for each kind of
processor, as the two cost another time on another. OpenVINO runs a convolution and the
PReLU behind it as one kernel, with nothing to quantize in between. One plan holds it all; simulation switches what the
target has not.

An island computes in float in every target (see canonical.islands), and so does a move of what only islands have made.
What an island makes is rounded where somebody else reads it.

Layers may be kept in float. A kept layer computes in float with its float weights, on whatever its input tensor is; in
networks with islands, which keep many for their outliers, its weights are stored as codes.
What follows it up to the next layers (activations, pools, additions) computes in float too, as long as one of the
tensors that it reads is not rounded. A tensor is rounded unless it is made in float and everybody who reads it computes
in float: integer kernels read codes, and a tensor has one value for all.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import fx

from qface_toolkit.canonical.graph import inputs, operation
from qface_toolkit.quantize.target import Activations, Target
from qface_toolkit.verifier import Machine

LAYERS = ("conv", "linear")
_ENDS = ("output", "normalize")
"""They read the embedding, in float whatever it is, and have no range."""


def islands(network: fx.GraphModule) -> frozenset[str]:
    """Return the names of the operations that compute in float everywhere."""
    found: set[str] = set()
    for node in network.graph.nodes:
        moved = operation(node) == "move" and all(source.name in found for source in inputs(node))
        if operation(node) == "island" or moved:
            found.add(node.name)
    return frozenset(found)


def nodes_in_float(network: fx.GraphModule, kept: Collection[str]) -> frozenset[str]:
    """Return the names of the operations that compute in float if these layers do, beside islands."""
    nodes, alone = list(network.graph.nodes), islands(network)
    behind = [node for node in nodes if operation(node) not in (*LAYERS, *_ENDS) and node.name not in alone]
    floats = {*kept, *alone}
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


Form = Literal["twin", "scaled"]
"""How an ONNX file computes PReLU, max(z, a z) for slopes a up to 1, in integers.

twin: the convolution before it runs twice, with weights W and a W, straight onto the output's grid: no rounding but the
output's, at the price of a second convolution. scaled: z is rounded once, a z is made from its codes by a 1x1 depthwise
convolution; both lie on one grid, which must span z and so is coarser than the output's own.
"""

FormsOf = Mapping[Machine, Mapping[str, Form]]
"""The form of each PReLU, by its name, in the files for each kind of processor."""

MACHINES: tuple[Machine, ...] = get_args(Machine)

GATE = (0.0, 1.0)
"""What every sigmoid and hard sigmoid spans: its range is known, and the end of it is the hard one's clamp."""

_KEEPS_VALUES = ("max_pool", "average_pool", "global_average_pool", "flatten", "relu6", "concat", "move")
"""Operations whose output needs no other range than their inputs', which torch's kernels let them have."""

_KERNELS = ("conv", "linear", "prelu", "relu")
_ONE_KERNEL = ("prelu", "relu6", "sigmoid", "hard_sigmoid", "add")
"""What OpenVINO makes part of the kernel before it; it would drop the rounding in between, so there is none."""


@dataclass(frozen=True)
class TensorPlan:
    """One tensor that carries a range.

    `owner` names the tensor whose range this one shares (itself, if none). `held` says where it is held as codes, by
    how activation functions run there (Target.activations), if no twin computes it (CodesPlan). `observed` is False
    where the values that matter are seen further on, behind a clamp.
    """

    owner: str
    held: frozenset[Activations]
    observed: bool = True


@dataclass(frozen=True)
class CodesPlan:
    """What follows from the forms of PReLUs in the ONNX files for one kind of processor.

    `forms` holds the form of each. `grids` holds the owners whose ranges one grid must span, for those that span more
    than their own. `passed` names the convolutions that only a twin reads, whose output never exists.
    """

    forms: Mapping[str, Form]
    grids: Mapping[str, tuple[str, ...]]
    passed: frozenset[str]


@dataclass(frozen=True)
class LoweringPlan:
    """Every tensor that carries a range, by the name of the node that makes it, and how targets treat it.

    `clamps` are the bounds of shared ranges that nobody reads beyond, `fixed` the ranges that are known without looking
    at any image, both by owner. `codes` says what ONNX files make of PReLUs. `kept` names
    the layers that ONNX forms keep in float, in the order in which they were chosen, `floats` everything that computes
    in float there because of them (see above), `islands` what computes in float everywhere.
    """

    tensors: Mapping[str, TensorPlan]
    clamps: Mapping[str, tuple[float, float]]
    fixed: Mapping[str, tuple[float, float]]
    codes: Mapping[Machine, CodesPlan]
    kept: tuple[str, ...] = ()
    floats: frozenset[str] = frozenset()
    islands: frozenset[str] = frozenset()

    @property
    def forms(self) -> FormsOf:
        """The ONNX form of each PReLU, as `make_plan` takes them."""
        return {machine: codes.forms for machine, codes in self.codes.items()}

    def form(self, prelu: str, target: Target) -> Form:
        """Return the form in which a target's file computes a PReLU."""
        return self._codes(target).forms[prelu]

    def quantized(self, tensor: str, target: Target) -> bool:
        """Tell whether a target quantizes a tensor."""
        if tensor not in self.tensors or target.activations not in self.tensors[tensor].held:
            return False
        return not (target.joins_grids and tensor in self._codes(target).passed)

    def in_float(self, node: str, target: Target) -> bool:
        """Tell whether a target computes an operation in float: an island, or because layers are kept so."""
        return node in self.islands or (target.keeps_layers and node in self.floats)

    @property
    def keeps_codes(self) -> bool:
        """Whether the weights of layers that are kept in float are codes all the same."""
        return bool(self.islands)

    def owners(self) -> tuple[str, ...]:
        """Return the tensors that own a range, in order of execution."""
        return tuple(dict.fromkeys(plan.owner for plan in self.tensors.values()))

    def spanned(self, tensor: str, target: Target) -> tuple[str, ...]:
        """Return the owners whose ranges a tensor's grid spans in a target."""
        owner = self.tensors[tensor].owner
        return self._codes(target).grids.get(owner, (owner,)) if target.joins_grids else (owner,)

    def _codes(self, target: Target) -> CodesPlan:
        assert target.machine is not None, f"{target.name} is for no kind of processor"
        return self.codes[target.machine]


def everywhere(forms: Mapping[str, Form]) -> FormsOf:
    """Return the same forms for every kind of processor."""
    return dict.fromkeys(MACHINES, forms)


def make_plan(network: fx.GraphModule, forms: FormsOf | None = None, kept: Sequence[str] = ()) -> LoweringPlan:
    """Plan the ranges of a canonical network; a PReLU that `forms` does not name is exact where it can be.

    `kept` names the layers that ONNX forms keep in float.
    """
    tensors: dict[str, TensorPlan] = {}
    alone = islands(network)
    owners = _owners(network, alone)
    clamped = _clamped_owners(network, owners)
    floats = nodes_in_float(network, kept)
    for node in network.graph.nodes:
        unrounded = (node.name in alone or operation(node) == "input") and stays_float(node, alone)
        if operation(node) in _ENDS or _runs_into_relu(node) or unrounded:
            continue
        owner = owners[node.name]
        observed = owner not in clamped or not _reads_only(node, "relu6")
        tensors[node.name] = TensorPlan(owner, _held(node, floats), observed)
    clamps = dict.fromkeys(clamped, (0.0, 6.0))
    fixed = {owners[node.name]: GATE for node in network.graph.nodes if operation(node) in ("sigmoid", "hard_sigmoid")}
    codes = {machine: _codes(network, owners, (forms or {}).get(machine, {}), floats) for machine in MACHINES}
    return LoweringPlan(tensors, clamps, fixed, codes, tuple(kept), floats, alone)


def has_own_convolution(prelu: fx.Node) -> bool:
    """Tell whether a PReLU is the only reader of a convolution, which the twin form runs twice."""
    return operation(source := inputs(prelu)[0]) == "conv" and len(source.users) == 1


def _codes(
    network: fx.GraphModule, owners: Mapping[str, str], forms: Mapping[str, Form], floats: frozenset[str]
) -> CodesPlan:
    chosen = _complete(network, forms)
    twins = (inputs(node)[0] for node in network.graph.nodes if chosen.get(node.name) == "twin")
    rounded_forms = {name: form for name, form in chosen.items() if name not in floats}
    return CodesPlan(chosen, _grids(network, owners, rounded_forms), frozenset(source.name for source in twins))


def _complete(network: fx.GraphModule, forms: Mapping[str, Form]) -> dict[str, Form]:
    chosen: dict[str, Form] = {}
    for node in network.graph.nodes:
        if operation(node) == "prelu":
            exact: Form = "twin" if has_own_convolution(node) else "scaled"
            chosen[node.name] = forms.get(node.name, exact) if exact == "twin" else exact
    return chosen


def _grids(network: fx.GraphModule, owners: Mapping[str, str], forms: Mapping[str, Form]) -> dict[str, tuple[str, ...]]:
    """Join the range of a scaled PReLU with its input's: Max compares their codes, so they lie on one grid."""
    joined = {owner: owner for owner in owners.values()}
    for node in network.graph.nodes:
        if forms.get(node.name) == "scaled":
            _join(joined, owners[inputs(node)[0].name], owners[node.name])
    members: dict[str, list[str]] = {}
    for owner, head in joined.items():
        members.setdefault(head, []).append(owner)
    return {owner: tuple(members[head]) for owner, head in joined.items() if len(members[head]) > 1}


def _clamped_owners(network: fx.GraphModule, owners: Mapping[str, str]) -> list[str]:
    """Return the owners whose range may end at 0 and 6: nobody reads a tensor of theirs but through a ReLU6."""
    clamped = dict.fromkeys(owners.values(), True)
    behind: set[fx.Node] = set()
    for node in network.graph.nodes:
        if operation(node) == "relu6" or (_shares(node) and all(source in behind for source in inputs(node))):
            behind.add(node)
        elif not _reads_only(node, "relu6"):
            clamped[owners[node.name]] = False
    return [owner for owner, all_clamped in clamped.items() if all_clamped]


def _reads_only(node: fx.Node, name: str) -> bool:
    """Tell whether the one and only reader of a node's output is this operation."""
    return len(node.users) == 1 and operation(next(iter(node.users))) == name


def _runs_into_relu(node: fx.Node) -> bool:
    """Tell whether a tensor never exists, because every engine fuses its producer with the ReLU behind it."""
    return operation(node) in ("conv", "linear", "add") and _reads_only(node, "relu")


def _held(node: fx.Node, floats: frozenset[str]) -> frozenset[Activations]:
    """Return where a tensor is held as codes: everywhere that an engine's own kernels pass it on."""
    held: set[Activations] = {"kernels"}
    ends = operation(node) == "linear" and any(_reads_only(node, end) for end in _ENDS)
    if not ends and not stays_float(node, floats):
        held.add("codes")
    in_kernel = operation(node) in _KERNELS and any(_reads_only(node, behind) for behind in _ONE_KERNEL)
    if not ends and not in_kernel:
        held.add("fused")
    return frozenset(held)


def _owners(network: fx.GraphModule, alone: Collection[str]) -> dict[str, str]:
    """Return for each tensor the one whose range it shares: torch's engines move codes through some operations."""
    owner = {node.name: node.name for node in network.graph.nodes}
    for node in network.graph.nodes:
        for part in inputs(node) if _shares(node) and node.name not in alone else ():
            _join(owner, part.name, node.name)
    return owner


def _shares(node: fx.Node) -> bool:
    return operation(node) in _KEEPS_VALUES


def _join(owner: dict[str, str], first: str, second: str) -> None:
    kept, lost = owner[first], owner[second]
    for name, current in owner.items():
        if current == lost:
            owner[name] = kept
