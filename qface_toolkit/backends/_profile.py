"""What ONNX Runtime makes of a file, operator by operator, and how long each takes on this machine.

Before the runtime sees the file every node gets a tag for a name: the optimized graph keeps names and nothing else
that leads back to the file. Two graphs come out: one with constants folded and all quantize/dequantize pairs there yet,
which tells why something did not fuse, and the one that runs.
"""

import json
import re
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from qface_toolkit.backends._onnxruntime import ERRORS, REFUSED, free_sizes, new_session, session_options
from qface_toolkit.backends._qdq import QdqGraph
from qface_toolkit.environment import machine_here
from qface_toolkit.errors import ArtifactError
from qface_toolkit.runtimes.cost import node_names
from qface_toolkit.runtimes.fusion import (
    CONVERSIONS,
    CONVOLUTIONS,
    KEPT,
    LINEAR_LAYERS,
    Arithmetic,
    Fusion,
    Layer,
    Operator,
    measure_fusion,
)
from qface_toolkit.untrusted.limits import limited_memory, limited_time
from qface_toolkit.untrusted.onnx import LARGEST_BYTES, read_onnx

WARMUP_RUNS = 3
FEWEST_RUNS = 3
MOST_RUNS = 20
BUDGET_S = 5.0
IMAGE_SIDE = 112
"""What stands for a height or width that the file leaves open."""
LARGEST_INPUT = 1 << 24
LARGEST_LOOKED_AT = 1 << 18
"""Bytes of a constant up to which its numbers are kept: a scale for each of 65,536 channels."""

_TAG = re.compile(r"^(?:fused )?@(\d+)@")
_NCHWC = re.compile(r"_nchwc(?:_token_\d+)?$")
_ABSORBED = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "Add"})
"""What the runtime may have fused into the convolution before it."""
_MOVES = CONVERSIONS | {
    "Transpose",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Concat",
    "QLinearConcat",
    "Split",
    "Slice",
    "Identity",
    "Pad",
    "Cast",
    "Gather",
    "Shape",
    "Expand",
    "ReorderInput",
    "ReorderOutput",
    "Dropout",
}
_EIGHT_BITS = ("uint8", "int8")
_FLOATS = ("float", "float16", "double", "bfloat16")
_INPUT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


@dataclass(frozen=True)
class _Timing:
    """The median time of an operator and the element types of what it reads and writes."""

    time_us: float
    reads: tuple[str, ...]
    writes: tuple[str, ...]


def inspect_onnx(artifact: Path, *, signed_allowed: bool = False) -> Fusion:
    """Return what ONNX Runtime runs for a file, one image at a time on one thread, and what did not become integer.

    With `signed_allowed` int8 activations run as integers on x86 too, slowly, as they do on ARM.

    Raises:
        QFaceError: if the file is damaged or refused, has several inputs, or asks for more time or memory than it gets.
    """
    with limited_memory(artifact):
        model = read_onnx(artifact).model
        free_sizes(model)
        names = _tag(model.graph.node)
        kept = {names[node.name] for node in model.graph.node if node.doc_string == KEPT}
        try:
            with tempfile.TemporaryDirectory() as folder:
                runtime = _Runtime(artifact, model.SerializeToString(), Path(folder), signed_allowed)
                model.Clear()  # a large network's is held once and not twice
                folded, optimized = runtime.folded(), runtime.profiled()
        except (*ERRORS, ValueError) as error:
            said = re.sub(r"@\d+@", lambda tag: names.get(tag[0], tag[0]), str(error).partition("\n")[0])[:300]
            raise ArtifactError(
                f"ONNX Runtime {onnxruntime.__version__} refuses the file: {said}", where=str(artifact), fix=REFUSED
            ) from error
        signed = signed_allowed or machine_here() == "arm"
        return _fusion(names, kept, folded, *optimized, signed)


def _tag(nodes: Sequence[onnx.NodeProto]) -> dict[str, str]:
    """Name every node by its place; return each tag's own name for people, which no other node has."""
    shown: dict[str, str] = {}
    for place, (node, name) in enumerate(zip(nodes, node_names(nodes), strict=True)):
        node.name = f"@{place}@"
        shown[node.name] = name
    return shown


class _Runtime:
    """One file's bytes in ONNX Runtime, and a folder for what the runtime writes about them."""

    def __init__(self, artifact: Path, data: bytes, folder: Path, signed_allowed: bool) -> None:
        self.artifact, self.data, self.folder, self.signed_allowed = artifact, data, folder, signed_allowed

    def _session(self, options: onnxruntime.SessionOptions, saved: Path) -> onnxruntime.InferenceSession:
        options.optimized_model_filepath = str(saved)
        options.log_severity_level = 4
        if self.signed_allowed:
            options.add_session_config_entry("session.qdqisint8allowed", "1")
        return new_session(self.data, options)

    def folded(self) -> onnx.ModelProto:
        """Return the graph as the pattern matching finds it."""
        options, saved = session_options(threads=1), self.folder / "folded.onnx"
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        self._session(options, saved)
        return self._load(saved)

    def profiled(self) -> tuple[onnx.ModelProto, list[_Timing]]:
        """Return the graph that runs, and the timing of each of its nodes."""
        options, saved = session_options(threads=1), self.folder / "optimized.onnx"
        options.enable_profiling = True
        options.profile_file_prefix = str(self.folder / "profile")
        session = self._session(options, saved)
        inputs = _random_input(session, self.artifact)
        started = time.perf_counter()
        with limited_time() as run:
            runs = WARMUP_RUNS
            for _ in range(WARMUP_RUNS):
                session.run(None, inputs, run)
            left = BUDGET_S * WARMUP_RUNS / (time.perf_counter() - started)
            for _ in range(max(FEWEST_RUNS, min(MOST_RUNS, int(left)))):
                session.run(None, inputs, run)
                runs += 1
        optimized = self._load(saved)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8", "replace"))
        return optimized, _timings(optimized.graph.node, events, runs)

    def _load(self, saved: Path) -> onnx.ModelProto:
        if saved.stat().st_size > LARGEST_BYTES:
            raise ArtifactError("its constants take more memory than any face network's", where=str(self.artifact))
        return _without_weights(onnx.load(saved))


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take the numbers of large constants out of a graph that is only looked at: its scales are small ones."""
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > LARGEST_LOOKED_AT:
            tensor.ClearField("raw_data")
    return model


def _random_input(session: onnxruntime.InferenceSession, artifact: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return one fixed random image of the size that the file declares."""
    where = str(artifact)
    entering = session.get_inputs()
    if len(entering) != 1:
        raise ArtifactError(f"the graph has {len(entering)} inputs, and a face network has one", where=where)
    if entering[0].type not in _INPUT_TYPES:
        raise ArtifactError(f"its input is a {entering[0].type}; images are float or uint8", where=where)
    if len(entering[0].shape) != 4:
        raise ArtifactError(f"its input has {len(entering[0].shape)} axes, and a batch of images has 4", where=where)
    dims = [dim if isinstance(dim, int) and dim > 0 else None for dim in entering[0].shape]
    usual = {0: 1, 1: 3 if dims[-1] != 3 else IMAGE_SIDE}
    shape = [dim or usual.get(place, IMAGE_SIDE) for place, dim in enumerate(dims)]
    if np.prod(shape, dtype=float) > LARGEST_INPUT:
        raise ArtifactError(f"its input has the shape {shape[:8]}, more than any picture", where=where)
    pixels = np.random.default_rng(0).integers(0, 256, shape)
    dtype = _INPUT_TYPES[entering[0].type]
    return {entering[0].name: (pixels if dtype is np.uint8 else (pixels - 127.5) / 127.5).astype(dtype)}


def _timings(nodes: Sequence[onnx.NodeProto], events: Iterable[Mapping[str, Any]], runs: int) -> list[_Timing]:
    """Return the median over the runs that count; both the file and a run have the nodes in the same order."""
    found: list[list[Mapping[str, Any]]] = [[] for _ in nodes]
    place = 0
    for event in events:
        arguments = event.get("args", {})
        if event.get("cat") != "Node" or arguments.get("op_name") != nodes[place].op_type:
            continue
        if nodes[place].name and event["name"] != f"{nodes[place].name}_kernel_time":
            continue
        found[place].append(event)
        place = (place + 1) % len(nodes)
    if any(len(each) != runs for each in found):
        raise ValueError("the profile does not follow the optimized graph")
    return [_timing(each[WARMUP_RUNS:]) for each in found]


def _timing(events: Sequence[Mapping[str, Any]]) -> _Timing:
    reads, writes = (
        tuple(kind for typed in events[0]["args"].get(key, []) for kind in typed)
        for key in ("input_type_shape", "output_type_shape")
    )
    return _Timing(float(np.median([event["dur"] for event in events])), reads, writes)


def _fusion(
    names: Mapping[str, str],
    kept: Collection[str],
    folded: onnx.ModelProto,
    optimized: onnx.ModelProto,
    timings: Sequence[_Timing],
    signed_allowed: bool,
) -> Fusion:
    graph = QdqGraph(folded, signed_allowed=signed_allowed)
    tags = {names[tag]: node for node in folded.graph.node if (tag := _tag_of(node.name)) and not _converts(node)}
    layers = [Layer(node.op_type, name) for name, node in tags.items() if node.op_type in CONVOLUTIONS | LINEAR_LAYERS]
    operators = [
        _operator(node, timing, names.get(_source(node, graph) or ""))
        for node, timing in zip(optimized.graph.node, timings, strict=True)
    ]
    quantized = bool(kept) or any(one.arithmetic == "integer" or one.kind == "QuantizeLinear" for one in operators)

    def explain(name: str) -> str:
        if name in kept:
            return KEPT
        return graph.explain(tags[name].name) if name in tags else "its constants were folded at load"

    return measure_fusion(operators, layers, explain, quantized=quantized)


def _converts(node: onnx.NodeProto) -> bool:
    return node.op_type in CONVERSIONS


def _operator(node: onnx.NodeProto, timing: _Timing, source: str | None) -> Operator:
    return Operator(
        kind=node.op_type,
        name=source or node.name or node.output[0],
        arithmetic=_arithmetic(node.op_type, timing),
        inputs=tuple(filter(None, node.input)),
        outputs=tuple(filter(None, node.output)),
        source=source,
        time_us=timing.time_us,
    )


def _arithmetic(kind: str, timing: _Timing) -> Arithmetic:
    if kind in _MOVES:
        return "move"
    if kind.startswith("QLinear") or timing.reads[:1] and timing.reads[0] in _EIGHT_BITS:
        return "integer"
    return "float" if any(one in _FLOATS for one in (*timing.reads, *timing.writes)) else "move"


def _tag_of(name: str) -> str | None:
    found = _TAG.match(name)
    return f"@{found[1]}@" if found else None


def _source(node: onnx.NodeProto, graph: QdqGraph) -> str | None:
    """Return the tag of the node of the file that an optimized one was made from."""
    if not _NCHWC.search(node.name):
        return _tag_of(node.name)
    # In the blocked layout a node is called after the tensor that it wrote, or that its activation wrote.
    made = writer = graph.writer.get(_NCHWC.sub("", node.name))
    while writer is not None and writer.op_type != node.op_type and writer.op_type in _ABSORBED:
        writer = graph.writer.get(writer.input[0])
    found = writer if writer is not None and writer.op_type == node.op_type else made
    return _tag_of(found.name) if found is not None else None
