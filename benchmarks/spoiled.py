"""Spoil a result in ways that a check must notice: slower with the same operators, a float island, larger, worse."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from qface_toolkit.backends import BACKENDS
from qface_toolkit.report import Report, read_report
from qface_toolkit.report.inspection import fusion_figures
from qface_toolkit.report.schema import ArtifactFigures
from qface_toolkit.result.manifest import add_files
from qface_toolkit.untrusted.json import json_bytes
from qface_toolkit.untrusted.reading import file_sha256

ARTIFACT = "int8.x86.onnx"
BACKEND = "onnx-x86"
LARGER_SHARE = 0.01
COSINE_FALL = 0.002


def spoil_file(result: Path, out: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """Copy a result with its int8 file changed and inspected anew, as a job that wrote such a file would report it."""
    shutil.copytree(result, out)
    file = out / ARTIFACT
    model = onnx.load(file)
    change(model)
    add_files(out, {ARTIFACT: model.SerializeToString()}, {})
    _report(out, _figures(file))
    return out


def spoil_agreement(result: Path, out: Path) -> Path:
    """Copy a result whose report says that the int8 file agrees less with the float model."""
    shutil.copytree(result, out)
    report = read_report(out / "report.json")
    before = next(one for one in report.artifacts if one.name == ARTIFACT).agreement
    if before is None:
        raise ValueError("the report has no agreement")
    lower = {"cosine_mean": before.cosine_mean - COSINE_FALL}
    _report(out, {"agreement": before.model_copy(update=lower)})
    return out


def _figures(file: Path) -> dict[str, object]:
    found = fusion_figures(BACKENDS.get(BACKEND).inspect(file))
    return {**found, "size_bytes": file.stat().st_size, "sha256": file_sha256(file), "cost": None}


def _report(folder: Path, changes: dict[str, object]) -> None:
    report = read_report(folder / "report.json")

    def changed(artifact: ArtifactFigures) -> ArtifactFigures:
        return artifact.model_copy(update=changes) if artifact.name == ARTIFACT else artifact

    artifacts = tuple(changed(one) for one in report.artifacts)
    told = Report.model_validate(report.model_copy(update={"artifacts": artifacts}).model_dump())
    add_files(folder, {"report.json": json_bytes(told.model_dump(mode="json"))}, {})


def slower(layers: int) -> Callable[[onnx.ModelProto], None]:
    """Return what gives so many depthwise kernels a rim of zeros, 5x5 in all: the same sums, more work."""

    def change(model: onnx.ModelProto) -> None:
        weights = {tensor.name: tensor for tensor in model.graph.initializer}
        for name, nodes in list(_depthwise(model).items())[:layers]:
            wide = np.pad(numpy_helper.to_array(weights[name]), ((0, 0), (0, 0), (1, 1), (1, 1)))
            weights[name].CopyFrom(numpy_helper.from_array(wide, name))
            for node in nodes:
                _widen(node)

    return change


def depthwise_layers(result: Path) -> int:
    """Return how many kernels `slower` can widen."""
    return len(_depthwise(onnx.load(result / ARTIFACT)))


def _depthwise(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the convolutions that each tensor of 3x3 depthwise kernels is used by."""
    kernels = [tensor.name for tensor in model.graph.initializer if list(tensor.dims[1:]) == [1, 3, 3]]
    sources = {name: name for name in kernels}
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            if node.input[1] in sources:
                found.setdefault(sources[node.input[1]], []).append(node)
            continue
        # A second kernel may be made from a first one, by operators that the runtime folds.
        known = [sources[name] for name in node.input if name in sources]
        sources |= dict.fromkeys(node.output, known[0]) if known else {}
    return found


def _widen(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name == "pads":
            attribute.ints[:] = [pad + 1 for pad in attribute.ints]
        if attribute.name == "kernel_shape":
            attribute.ints[:] = [5, 5]


def put_island_back(model: onnx.ModelProto) -> None:
    """Let the first convolution that can give its output as float: what reads it no longer runs on integers alone."""
    readers = {name: node for node in model.graph.node for name in node.input}
    for node in model.graph.node:
        quantize = readers.get(node.output[0]) if node.op_type == "Conv" else None
        codes = quantize.output[0] if quantize is not None and quantize.op_type == "QuantizeLinear" else ""
        back = readers.get(codes)
        if back is not None and back.op_type == "DequantizeLinear":
            for reader in model.graph.node:
                names = [node.output[0] if name == back.output[0] else name for name in reader.input]
                reader.input[:] = names
            return
    raise ValueError("no convolution of this file gives codes")


def larger(model: onnx.ModelProto) -> None:
    """Add one percent of bytes that no operator reads."""
    entry = model.metadata_props.add()
    entry.key, entry.value = "ballast", "x" * int(LARGER_SHARE * model.ByteSize())
