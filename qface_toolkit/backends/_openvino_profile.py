"""What OpenVINO makes of a file, operator by operator, and how long each takes on this machine.

Before the runtime sees the file every node gets a tag for a name: the compiled graph names what it fused.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from qface_toolkit.backends._openvino import compiled, openvino
from qface_toolkit.errors import ArtifactError
from qface_toolkit.runtimes.fusion import (
    CONVERSIONS,
    CONVOLUTIONS,
    LINEAR_LAYERS,
    Arithmetic,
    Fusion,
    Layer,
    Operator,
    measure_fusion,
)
from qface_toolkit.untrusted.limits import LONGEST_RUN_S, limited_memory
from qface_toolkit.untrusted.onnx import read_onnx

WARMUP_RUNS = 3
RUNS = 20
LARGEST_INPUT = 1 << 24

_TAG = re.compile(r"@(\d+)@")
_MOVES = frozenset(
    {"Input", "Output", "Reorder", "Reshape", "Concatenation", "Convert", "Transpose", "Pad", "Split", "Squeeze"}
)
_EIGHT_BITS = ("u8", "i8")


@dataclass(frozen=True)
class _Node:
    """One node of the compiled graph; `places` says which nodes of the file it runs, by their order."""

    kind: str
    name: str
    precision: str
    kernel: str
    inputs: tuple[str, ...]
    places: tuple[int, ...]


def inspect_openvino(artifact: Path) -> Fusion:
    """Return what OpenVINO runs for a file, one image at a time on one thread, and what did not become integer.

    Raises:
        QFaceError: if the file is damaged or refused, takes too long, or OpenVINO is not installed.
    """
    openvino()
    with limited_memory(artifact):
        model = read_onnx(artifact).model
        shown = [node.name or node.output[0] for node in model.graph.node]
        for place, node in enumerate(model.graph.node):
            node.name = f"@{place}@"
        network = compiled(artifact, model.SerializeToString(), batch=1, threads=1, timed=True)
        return _fusion(model, shown, list(_nodes(network)), _times(network, artifact))


def _nodes(network: Any) -> Iterator[_Node]:  # noqa: ANN401 - OpenVINO may be absent, and its types with it
    """Yield what is run for each image, in order; what only constants enter was run when the network was compiled."""
    running: set[str] = set()
    for node in network.get_runtime_model().get_ordered_ops():
        facts = {key: value.astype(str) for key, value in node.get_rt_info().items() if hasattr(value, "astype")}
        name, sources = node.get_friendly_name(), [source.get_node() for source in node.input_values()]
        inputs = tuple(source.get_friendly_name() for source in sources)
        if facts["layerType"] == "Input" or running.intersection(inputs):
            running.add(name)
            places = tuple(dict.fromkeys(int(tag) for tag in _TAG.findall(facts["originalLayersNames"])))
            yield _Node(facts["layerType"], name, facts["runtimePrecision"], facts["primitiveType"], inputs, places)


def _times(network: Any, artifact: Path) -> dict[str, float]:  # noqa: ANN401 - OpenVINO may be absent
    """Return the median time of each node in microseconds."""
    shape = [int(size) for size in network.input().get_shape()]
    if np.prod(shape, dtype=float) > LARGEST_INPUT:
        raise ArtifactError(f"its input has the shape {shape[:8]}, more than any picture", where=str(artifact))
    request = network.create_infer_request()
    request.set_input_tensor(openvino().Tensor(np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)))
    found: dict[str, list[float]] = {}
    for number in range(WARMUP_RUNS + RUNS):
        request.start_async()
        if not request.wait_for(int(LONGEST_RUN_S * 1000)):
            request.cancel()
            raise ArtifactError(f"one image takes more than {LONGEST_RUN_S:.0f} s", where=str(artifact))
        for info in request.profiling_info if number >= WARMUP_RUNS else ():
            found.setdefault(info.node_name, []).append(info.real_time.total_seconds() * 1e6)
    return {name: float(np.median(times)) for name, times in found.items()}


def _fusion(model: onnx.ModelProto, shown: list[str], nodes: list[_Node], times: Mapping[str, float]) -> Fusion:
    kinds = [node.op_type for node in model.graph.node]
    operators = [_operator(node, kinds, shown, times) for node in nodes]
    runs_in = {operator.source: node for operator, node in zip(operators, nodes, strict=True)}

    def explain(name: str) -> str:
        node = runs_in.get(name)
        return f"OpenVINO runs it in {node.precision} ({node.kernel})" if node else "OpenVINO has no node of its name"

    asked = CONVOLUTIONS | LINEAR_LAYERS
    layers = [Layer(kind, name) for kind, name in zip(kinds, shown, strict=True) if kind in asked]
    return measure_fusion(operators, layers, explain, quantized="QuantizeLinear" in kinds)


def _operator(node: _Node, kinds: list[str], shown: list[str], times: Mapping[str, float]) -> Operator:
    """Return a node as the report knows it: named after the layer that it runs, or after what else it does."""
    ranks = {
        place: (kinds[place] not in CONVOLUTIONS | LINEAR_LAYERS, kinds[place] in CONVERSIONS) for place in node.places
    }
    first = min(node.places, key=lambda place: (ranks[place], place), default=None)
    converts = first is not None and kinds[first] in CONVERSIONS
    return Operator(
        kind=kinds[first] if first is not None and converts else node.kind,
        name=shown[first] if first is not None else node.name,
        arithmetic="move" if converts else _arithmetic(node),
        inputs=node.inputs,
        outputs=(node.name,),
        source=shown[first] if first is not None else None,
        time_us=times.get(node.name, 0.0),
    )


def _arithmetic(node: _Node) -> Arithmetic:
    if node.kind in _MOVES:
        return "move"
    return "integer" if node.precision in _EIGHT_BITS else "float"
