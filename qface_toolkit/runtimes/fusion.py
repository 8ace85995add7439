"""What a runtime really runs: which operators compute on integers, which fell out into float, and what that costs.

A file may hold int8 weights and still run slower than float, because a runtime fuses a pattern only if every part of it
fits. So nothing here believes the file: the operators are those of the optimized graph, the times are measured.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Arithmetic = Literal["integer", "float", "move"]

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv"})
LINEAR_LAYERS = frozenset({"Gemm", "MatMul", "QGemm", "QLinearMatMul", "MatMulInteger"})
CONVERSIONS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "aten::quantize_per_tensor", "aten::dequantize"}
)
NORMALISATIONS = frozenset(
    {
        "LpNormalization",
        "ReduceL2",
        "ReduceSum",
        "ReduceSumSquare",
        "Div",
        "Mul",
        "Sqrt",
        "Pow",
        "Clip",
        "Max",
        "Add",
        "aten::linalg_vector_norm",
        "aten::clamp_min",
        "aten::expand_as",
        "aten::div",
    }
)
"""What may follow the last layer: it works on the embedding, which is float."""

FLOAT_MODEL = "a float model, without QuantizeLinear"
UNTRACED = "the runtime's optimized graph holds nothing that bears its name"
MADE_BY_RUNTIME = "the runtime put it there itself"
PREPARES = "it prepares the image, before the first QuantizeLinear"
ENDS = "the embedding itself is float"
KEPT = "kept in float by the budget"
"""What a node of ours says of itself that is in float on purpose."""
NO_INTEGERS = "no runtime has an integer kernel for it"
"""What a node of ours says of itself that has no other form than this one in float."""
MOST_REASONS = 3


@dataclass(frozen=True)
class Operator:
    """One operator of the optimized graph; `inputs` and `outputs` name tensors, `source` the node of the file."""

    kind: str
    name: str
    arithmetic: Arithmetic
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    source: str | None = None
    time_us: float | None = None


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer of the file; `reason` says why it runs in float, and is None if it does not."""

    kind: str
    name: str
    reason: str | None = None


@dataclass(frozen=True)
class Kind:
    """All operators of a kind and an arithmetic; `share` is that of the whole time."""

    kind: str
    arithmetic: Arithmetic
    count: int
    time_us: float | None
    share: float | None


@dataclass(frozen=True)
class Island:
    """Float operators that hang together; `share` counts the conversions around them, which are there because of them.

    `operators` names them and `kinds` counts them, moves of float tensors included. With `of_embedding` it is the end
    of the network, where the embedding is float anyway.
    """

    operators: tuple[str, ...]
    kinds: Counter[str]
    share: float | None
    reason: str
    of_embedding: bool = False


@dataclass(frozen=True)
class Fusion:
    """What became of a file in a runtime; a float model has no islands, it is one.

    `operators` are those of the runtime's optimized graph, in its order. `convolutions` and `linear_layers` are those
    of the file, each with the reason if it runs in float. `all_islands` has the float parts, the embedding's own too.
    `placement` says on what kind of processor and in what all this was seen, and whether it is the file's own kind.
    """

    quantized: bool
    operators: tuple[Operator, ...]
    convolutions: tuple[Layer, ...]
    linear_layers: tuple[Layer, ...]
    all_islands: tuple[Island, ...]
    placement: str | None = None

    @property
    def islands(self) -> tuple[Island, ...]:
        """The islands that should not be there, the most expensive first."""
        return tuple(island for island in self.all_islands if not island.of_embedding)

    @property
    def integer_share(self) -> float:
        """The share of the operators that do not compute on float numbers: 0..1."""
        if not self.quantized:
            return 0.0
        return sum(one.arithmetic != "float" for one in self.operators) / len(self.operators)

    @property
    def time_us(self) -> float | None:
        """The time of all operators together, in microseconds, or None if it was not measured."""
        return _time(self.operators)

    @property
    def counts(self) -> Counter[str]:
        """How many operators there are of each kind."""
        return Counter(one.kind for one in self.operators)

    def kinds(self) -> tuple[Kind, ...]:
        """Return the operators by kind and arithmetic, the most expensive (or most frequent) first."""
        groups: dict[tuple[str, Arithmetic], list[Operator]] = {}
        for one in self.operators:
            groups.setdefault((one.kind, one.arithmetic), []).append(one)
        found = [
            Kind(*key, len(group), _time(group), share_of(_time(group), self.time_us)) for key, group in groups.items()
        ]
        return tuple(sorted(found, key=lambda kind: (-(kind.time_us or 0.0), -kind.count, kind.kind)))


def integer_count(layers: Sequence[Layer]) -> int:
    """Return how many of the layers run on integers."""
    return sum(layer.reason is None for layer in layers)


def kept_count(layers: Sequence[Layer]) -> int:
    """Return how many of the layers are in float on purpose."""
    return sum(layer.reason == KEPT for layer in layers)


def share_of(part: float | None, whole: float | None) -> float | None:
    """Return a part's share of the whole, or None where one of them is not known."""
    return None if part is None or not whole else part / whole


def measure_fusion(
    operators: Sequence[Operator], layers: Sequence[Layer], explain: Callable[[str], str], *, quantized: bool
) -> Fusion:
    """Return what became of a file's `layers` among the `operators` of the optimized graph.

    `explain` says why a node of the file, named as in `Operator.source`, does not run on integers. `quantized` says
    whether the file asks for integers at all.
    """
    arithmetic = {one.source: one.arithmetic for one in operators if one.source and one.arithmetic != "move"}
    why = explain if quantized else _nothing_asked
    judged = tuple(_judged(layer, arithmetic, why) for layer in layers)
    return Fusion(
        quantized=quantized,
        operators=tuple(operators),
        convolutions=tuple(layer for layer in judged if layer.kind in CONVOLUTIONS),
        linear_layers=tuple(layer for layer in judged if layer.kind in LINEAR_LAYERS),
        all_islands=_islands(operators, explain) if quantized else (),
    )


def _nothing_asked(_: str) -> str:
    return FLOAT_MODEL


def _judged(layer: Layer, arithmetic: Mapping[str, Arithmetic], explain: Callable[[str], str]) -> Layer:
    found = arithmetic.get(layer.name)
    if found == "integer":
        return layer
    return Layer(layer.kind, layer.name, explain(layer.name) if found else UNTRACED)


def _islands(operators: Sequence[Operator], explain: Callable[[str], str]) -> tuple[Island, ...]:
    whole, graph = _time(operators), _Graph(operators)
    found = [graph.island(members, whole, explain) for members in graph.groups()]
    return tuple(sorted(found, key=lambda island: -(island.share or 0.0)))


class _Graph:
    """The optimized graph by its tensors: who writes which, and who reads it."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        self.operators = operators
        self.writer = {tensor: index for index, one in enumerate(operators) for tensor in one.outputs}
        self.readers: dict[str, list[int]] = {}
        for index, one in enumerate(operators):
            for tensor in one.inputs:
                self.readers.setdefault(tensor, []).append(index)
        self.computing = {index for index, one in enumerate(operators) if one.arithmetic == "float"}
        # A layout change between two float operators belongs to their island; one between integers to none.
        self.floating = self.computing | {
            index
            for index, one in enumerate(operators)
            if one.arithmetic == "move" and one.kind not in CONVERSIONS and self._beside_float(index)
        }

    def _beside_float(self, index: int) -> bool:
        """Return whether a chain of moves leads from this one to float arithmetic before any conversion does."""
        seen, waiting = {index}, [index]
        while waiting:
            for other in self.neighbours(waiting.pop()):
                if other in self.computing:
                    return True
                if other not in seen and self._is_plain_move(other):
                    seen.add(other)
                    waiting.append(other)
        return False

    def _is_plain_move(self, index: int) -> bool:
        return self.operators[index].arithmetic == "move" and self.operators[index].kind not in CONVERSIONS

    def before(self, index: int) -> Iterator[int]:
        """Yield who writes what this one reads."""
        return (self.writer[tensor] for tensor in self.operators[index].inputs if tensor in self.writer)

    def after(self, index: int) -> Iterator[int]:
        """Yield who reads what this one writes."""
        return (reader for tensor in self.operators[index].outputs for reader in self.readers.get(tensor, ()))

    def neighbours(self, index: int) -> Iterator[int]:
        """Yield who makes what this one reads, and who reads what it writes."""
        yield from self.before(index)
        yield from self.after(index)

    def groups(self) -> Iterator[list[int]]:
        """Yield the maximal connected groups of float operators, each in the graph's order."""
        left = set(self.floating)
        for start in sorted(self.computing):
            if start not in left:
                continue
            left.remove(start)
            group, waiting = [], [start]
            while waiting:
                group.append(waiting.pop())
                found = {other for other in self.neighbours(group[-1]) if other in left}
                left -= found
                waiting += found
            yield sorted(group)

    def island(self, members: Sequence[int], whole: float | None, explain: Callable[[str], str]) -> Island:
        """Return a group with its cost and its reason."""
        around = {other for index in members for other in self.neighbours(index)} - set(members)
        converted = [index for index in around if self.operators[index].kind in CONVERSIONS]
        time_us = _time([self.operators[index] for index in (*members, *converted)])
        kinds = [self.operators[index].kind for index in members]
        ends = self._ends_the_network(members)
        reason = ENDS if ends else PREPARES if self._begins_the_network(members) else self._reason(members, explain)
        names = tuple(self.operators[index].name for index in members)
        return Island(names, Counter(kinds), share_of(time_us, whole), reason, of_embedding=ends)

    def _ends_the_network(self, members: Sequence[int]) -> bool:
        plain = all(self.operators[index].kind in NORMALISATIONS for index in members if index in self.computing)
        return plain and all(other in members for index in members for other in self.after(index))

    def _begins_the_network(self, members: Sequence[int]) -> bool:
        layers = any("Conv" in self.operators[index].kind or "Gemm" in self.operators[index].kind for index in members)
        return not layers and all(other in members for index in members for other in self.before(index))

    def _reason(self, members: Sequence[int], explain: Callable[[str], str]) -> str:
        sources = [self.operators[index].source for index in members if index in self.computing]
        reasons = list(dict.fromkeys(explain(source) for source in sources if source))
        # What has no kernel at all is the cause; that its neighbours do not fit follows from it.
        reasons.sort(key=lambda reason: "no integer kernel" not in reason)
        more = [f"and {len(reasons) - MOST_REASONS} more"] if len(reasons) > MOST_REASONS else []
        return "; ".join([*reasons[:MOST_REASONS], *more]) or MADE_BY_RUNTIME


def _time(operators: Sequence[Operator]) -> float | None:
    times = [one.time_us for one in operators if one.time_us is not None]
    return sum(times) if times else None
