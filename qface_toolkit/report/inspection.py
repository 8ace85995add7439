"""What a runtime really runs for a file, for people, for programs and for the report."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from qface_toolkit.report.artifacts import island_said
from qface_toolkit.report.cost import kind_figures, kinds_table, lost_said, milliseconds_of
from qface_toolkit.report.figures import NOTHING, clean, layers_said, milliseconds
from qface_toolkit.report.schema import CostFigures, IslandFigures
from qface_toolkit.report.terminal import console_table
from qface_toolkit.runtimes.fusion import FLOAT_MODEL, Fusion, Island, Layer, integer_count, kept_count

NAMES_SHOWN = 5
LONGEST_LAYER = 40


def fusion_figures(fusion: Fusion) -> dict[str, Any]:
    """Return the fields of ArtifactFigures that say what became of an artifact in its runtime."""
    left = Counter(one.kind for one in fusion.operators if one.arithmetic == "float")
    at_end = Counter(kind for island in fusion.all_islands if island.of_embedding for kind in island.kinds.elements())
    return {
        "operators": dict(Counter(one.kind for one in fusion.operators)),
        "integer_share": fusion.integer_share,
        "float_islands": tuple(f"{kind} x{count}" for kind, count in sorted((left - at_end).items())),
        "islands": alike(fusion.islands),
        "placement": fusion.placement,
        **_layer_counts(fusion),
    }


def alike(islands: tuple[Island, ...]) -> tuple[IslandFigures, ...]:
    """Return islands of the same operators and reason as one, the most expensive first."""
    groups: dict[tuple[Any, ...], list[Island]] = {}
    for island in islands:
        groups.setdefault((*sorted(island.kinds.items()), island.reason), []).append(island)
    found = [
        IslandFigures(
            operators=dict(group[0].kinds), count=len(group), share=_sum(group), reason=clean(group[0].reason)
        )
        for group in groups.values()
    ]
    return tuple(sorted(found, key=lambda island: -(island.share or 0.0)))


def _sum(islands: list[Island]) -> float | None:
    shares = [island.share for island in islands if island.share is not None]
    return min(sum(shares), 1.0) if shares else None


def _layer_counts(fusion: Fusion) -> dict[str, int]:
    return {
        "convolutions": len(fusion.convolutions),
        "integer_convolutions": integer_count(fusion.convolutions),
        "kept_convolutions": kept_count(fusion.convolutions),
        "linear_layers": len(fusion.linear_layers),
        "integer_linear_layers": integer_count(fusion.linear_layers),
        "kept_linear_layers": kept_count(fusion.linear_layers),
    }


Costs = Mapping[str, CostFigures]
"""The layers of files beside float, by file."""


def inspection_values(files: Mapping[str, Fusion], costs: Costs | None = None) -> dict[str, Any]:
    """Return the inspection of several files as plain values: names, shares in 0..1, times in milliseconds."""
    beside = {name: _layer_values(cost) for name, cost in (costs or {}).items()}
    return {"files": [{"name": name, **_values(fusion), **beside.get(name, {})} for name, fusion in files.items()]}


def _layer_values(cost: CostFigures) -> dict[str, Any]:
    layers = [{"name": one.name, "time_ms": one.time_ms, "float_ms": one.float_ms} for one in cost.layers]
    return {"layers": layers, "slower_layers": [one.name for one in cost.losers]}


def _values(fusion: Fusion) -> dict[str, Any]:
    return {
        "quantized": fusion.quantized,
        "time_ms": milliseconds_of(fusion.time_us),
        "integer_share": fusion.integer_share,
        "placement": fusion.placement,
        **_layer_counts(fusion),
        "operators": [kind.model_dump() for kind in kind_figures(fusion)],
        "float_layers": [{"kind": layer.kind, "name": layer.name, "reason": layer.reason} for layer in _float(fusion)],
        "islands": [
            {
                "operators": list(island.operators),
                "kinds": dict(island.kinds),
                "share": island.share,
                "reason": island.reason,
                "of_embedding": island.of_embedding,
            }
            for island in fusion.all_islands
        ],
    }


def _float(fusion: Fusion) -> list[Layer]:
    return [layer for layer in (*fusion.convolutions, *fusion.linear_layers) if layer.reason is not None]


def render_inspection(files: Mapping[str, Fusion], costs: Costs | None = None) -> RenderableType:
    """Return the inspection of several files for a rich console of 80 columns or more."""
    parts: list[RenderableType] = []
    for name, fusion in files.items():
        kinds = kinds_table("", kind_figures(fusion))
        shown = console_table(kinds.headings, kinds.words(), texts=kinds.texts)
        parts += [Text(""), _title(name, fusion), shown, *_said(fusion)]
        parts += _beside_float(costs[name]) if costs and name in costs else []
    return Group(*parts[1:])


def _beside_float(cost: CostFigures) -> list[RenderableType]:
    """Return the time of each layer beside the one that it takes in float.fast.onnx, and which layers lost."""
    rows = []
    for layer in cost.layers:
        both = layer.beside_float
        if both is not None:
            faster = NOTHING if both[0] == 0 else f"{both[1] / both[0]:.2f}x"
            rows.append([clean(layer.name, LONGEST_LAYER), f"{both[0]:.3f}", f"{both[1]:.3f}", faster])
    headings = ("layer", "ms", "in float", "times faster")
    return [Text(""), console_table(headings, rows), Text(lost_said(cost), style="bold" if cost.losers else "")]


def _title(name: str, fusion: Fusion) -> Text:
    timed = fusion.time_us
    told = "" if timed is None else f": {milliseconds(timed / 1000)} ms for one image on one thread"
    return Text(clean(name, 60) + told, style="bold")


def _said(fusion: Fusion) -> Iterator[RenderableType]:
    if fusion.placement:
        yield Text(f"Placement {fusion.placement}.")
    if not fusion.quantized:
        yield Text(f"Nothing runs on integers: {FLOAT_MODEL}.")
        return
    for layers, name in ((fusion.convolutions, "convolution"), (fusion.linear_layers, "linear layer")):
        fine, sentence = layers_said(len(layers), integer_count(layers), name, kept_count(layers))
        yield Text(sentence[0].upper() + sentence[1:] + ".", style="" if fine else "bold red")
    for (kind, reason), names in _float_by_reason(fusion).items():
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        shown = ", ".join(clean(name, 40) for name in names[:NAMES_SHOWN])
        yield _indented(f"{clean(kind)} {shown}{more}: {clean(reason.removeprefix(f'{kind}: '))}")
    yield Text("Float islands:" if fusion.islands else "No float islands.")
    for island in alike(fusion.islands):
        yield _indented(island_said(island))


def _indented(text: str) -> RenderableType:
    return Padding(Text(text), (0, 0, 0, 2), expand=False)


def _float_by_reason(fusion: Fusion) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for layer in _float(fusion):
        found.setdefault((layer.kind, str(layer.reason)), []).append(layer.name)
    return found
