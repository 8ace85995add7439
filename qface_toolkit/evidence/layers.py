"""What each layer of a file costs, under the names that all of the report calls the layers by."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx

from qface_toolkit.report.cost import Beside, cost_figures
from qface_toolkit.report.schema import CostFigures
from qface_toolkit.runtimes.cost import measure_cost
from qface_toolkit.runtimes.fusion import Fusion


def cost_of(
    file: Path,
    fusion: Fusion,
    names: Mapping[str, str] | None = None,
    *,
    timed: bool = True,
    beside: Beside | None = None,
) -> CostFigures:
    """Return where the bytes and the milliseconds of an ONNX file are; `fusion` is what ONNX Runtime made of it.

    `names` says which tensor of the file ends which layer; without it every node that computes is a layer. Without
    `timed` there are no milliseconds: those of a file that is meant for another kind of machine say nothing. `beside`
    is what its layers are compared with.
    """
    graph = onnx.load(file).graph
    if not timed:
        fusion = replace(fusion, operators=tuple(replace(one, time_us=None) for one in fusion.operators))
    return cost_figures(measure_cost(graph, fusion.operators, file.stat().st_size, names), fusion, beside)
