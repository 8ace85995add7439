"""Find out what each layer of a file costs, under the names that all of the report calls the layers by."""

from dataclasses import replace
from pathlib import Path

import onnx

from qface_toolkit.backends import Backend
from qface_toolkit.backends.onnx_qdq import OnnxQdq
from qface_toolkit.backends.onnx_qdq.writer import code_names, value_names
from qface_toolkit.integer.tensors import embedding_name
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.report.cost import cost_figures
from qface_toolkit.report.schema import CostFigures
from qface_toolkit.runtimes.cost import measure_cost
from qface_toolkit.runtimes.fusion import Fusion

OUTPUT = "embedding"
"""What every file calls its output."""


def layer_names(model: QuantizedModel, backend: Backend) -> dict[str, str] | None:
    """Return which tensor of a backend's file ends which layer, or None where the file's own names must do.

    Our files call everything by a letter or two: the names are those of the network.
    """
    if not isinstance(backend, OnnxQdq):
        return None
    names = {OUTPUT: embedding_name(model)}
    for tensor, name in code_names(model, backend.code_type).items():
        names.setdefault(name, tensor)
    for tensor, name in value_names(model, backend.target, backend.code_type).items():
        if model.plan.in_float(tensor, backend.target.family):
            names.setdefault(name, tensor)
    return names


def backend_cost(
    model: QuantizedModel, backend: Backend, file: Path, fusion: Fusion, *, timed: bool
) -> CostFigures | None:
    """Return the same of a backend's artifact, or None where the runtime is another one."""
    if backend.runtime != "onnxruntime":
        return None
    return cost_of(file, fusion, layer_names(model, backend), timed=timed)


def cost_of(file: Path, fusion: Fusion, names: dict[str, str] | None = None, *, timed: bool = True) -> CostFigures:
    """Return where the bytes and the milliseconds of an ONNX file are; `fusion` is what ONNX Runtime made of it.

    Without `timed` there are no milliseconds: those of a file that is meant for another kind of machine say nothing.
    """
    graph = onnx.load(file).graph
    if not timed:
        fusion = replace(fusion, operators=tuple(replace(one, time_us=None) for one in fusion.operators))
    return cost_figures(measure_cost(graph, fusion.operators, file.stat().st_size, names), fusion)
