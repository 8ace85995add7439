"""Time convolutions on this machine, in integers and in float: what the committed table was made with.

Many stand side by side in one graph, each with an input of its own, and the runtime's own profile says what each takes:
no pass over memory in front of a kernel or behind it is booked on it.
"""

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from qface_toolkit.backends._onnxruntime import new_session, session_options
from qface_toolkit.backends.onnx_qdq._builder import IR_VERSION, OPSET
from qface_toolkit.times import Arithmetic, ConvShape, Row

TOGETHER = 5
"""Convolutions in one graph: when one's turn comes, the others have used the caches, as a network's other layers do."""
WARMUP_RUNS = 3
QUIET = 25
"""Percentile of the runs that counts: others' work on the machine only ever adds time."""
LEAST_US = 0.1
_STEP, _WEIGHT_STEP = np.float32(0.02), np.float32(0.01)
_KERNELS = frozenset({"Conv", "QLinearConv"})
_NAME = re.compile(r"^[cy](\d+)_")


def measure_times(
    wanted: Iterable[Row], runs: int = 15, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[Row, float]:
    """Return how many microseconds each convolution takes on one thread."""
    rows = list(dict.fromkeys(wanted))
    found: dict[Row, float] = {}
    for arithmetic in sorted({arithmetic for arithmetic, _ in rows}):
        shapes = [shape for one, shape in rows if one == arithmetic]
        for start in range(0, len(shapes), TOGETHER):
            some = shapes[start : start + TOGETHER]
            times = _profiled(some, arithmetic, runs)
            found |= {(arithmetic, shape): time for shape, time in zip(some, times, strict=True)}
            progress(len(found), len(rows))
    return found


def _profiled(shapes: Sequence[ConvShape], arithmetic: Arithmetic, runs: int) -> list[float]:
    graph = _Graph(arithmetic)
    for number, shape in enumerate(shapes):
        graph.add(number, shape)
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads=1)
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = new_session(graph.written(), options)
        for _ in range(WARMUP_RUNS + runs):
            session.run(None, graph.given)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8", "replace"))
    samples: dict[int, list[float]] = {number: [] for number in range(len(shapes))}
    for event in events:
        name = _NAME.match(event.get("name", ""))
        if name and event.get("args", {}).get("op_name") in _KERNELS:
            samples[int(name[1])].append(event["dur"])
    return [max(float(np.percentile(found[WARMUP_RUNS:], QUIET)), LEAST_US) for found in samples.values()]


class _Graph:
    """Convolutions side by side, and an input for each."""

    def __init__(self, arithmetic: Arithmetic) -> None:
        self.arithmetic = arithmetic
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.entering: list[onnx.ValueInfoProto] = []
        self.leaving: list[onnx.ValueInfoProto] = []
        self.given: dict[str, npt.NDArray[Any]] = {}
        self._draw = np.random.default_rng(0)

    def add(self, number: int, shape: ConvShape) -> None:
        """Add a convolution; the runtime calls it by its own name or, in blocks, by its output's."""
        above, left = shape.kernel // 2, shape.columns // 2
        rows = (shape.height - 1) * shape.stride + shape.kernel - 2 * above
        columns = ((shape.width - 1) * shape.stride + shape.columns - 2 * left) * shape.fold
        geometry = {
            "group": shape.groups,
            "strides": [shape.stride, shape.stride * shape.fold],
            "pads": [above, left * shape.fold, above, left * shape.fold],
        }
        entering, leaving = (1, shape.inputs, rows, columns), (shape.outputs, shape.inputs // shape.groups)
        weight = (*leaving, shape.kernel, shape.columns * shape.fold)
        write = self._integer if self.arithmetic == "integer" else self._float
        write(number, entering, weight, geometry)

    def _float(self, number: int, entering: tuple[int, ...], weight: tuple[int, ...], geometry: Any) -> None:  # noqa: ANN401
        self._end(number, entering, np.dtype(np.float32))
        weights = self._constant(f"w{number}", self._draw.standard_normal(weight, np.float32))
        bias = self._constant(f"b{number}", self._draw.standard_normal(weight[:1], np.float32))
        self._node("Conv", [f"x{number}", weights, bias], f"y{number}", f"c{number}_", **geometry)

    def _integer(self, number: int, entering: tuple[int, ...], weight: tuple[int, ...], geometry: Any) -> None:  # noqa: ANN401
        self._end(number, entering, np.dtype(np.uint8))
        zero = self._constant(f"z{number}", np.uint8(128))
        codes = self._constant(f"w{number}", self._draw.integers(-127, 128, weight, np.int8))
        scales = self._constant(f"s{number}", np.full(weight[:1], _WEIGHT_STEP))
        bias = self._constant(f"b{number}", self._draw.integers(-1000, 1000, weight[:1], np.int32))
        steps = self._constant(f"t{number}", np.full(weight[:1], _STEP * _WEIGHT_STEP))
        step = self._constant(f"e{number}", _STEP)
        read = (
            self._node("DequantizeLinear", [f"x{number}", step, zero], f"xf{number}"),
            self._node("DequantizeLinear", [codes, scales], f"wf{number}", axis=0),
            self._node("DequantizeLinear", [bias, steps], f"bf{number}", axis=0),
        )
        made = self._node("Conv", list(read), f"yf{number}", f"c{number}_", **geometry)
        self._node("QuantizeLinear", [made, step, zero], f"y{number}")

    def _end(self, number: int, entering: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        kind = helper.np_dtype_to_tensor_dtype(dtype)
        self.entering.append(helper.make_tensor_value_info(f"x{number}", kind, entering))
        self.leaving.append(helper.make_tensor_value_info(f"y{number}", kind, None))
        codes = dtype == np.uint8
        drawn = self._draw.integers(0, 256, entering) if codes else self._draw.standard_normal(entering)
        self.given[f"x{number}"] = drawn.astype(dtype)

    def _constant(self, name: str, value: Any) -> str:  # noqa: ANN401 - an array or a number of numpy's
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, operator: str, read: Sequence[str], made: str, name: str = "", **attributes: Any) -> str:  # noqa: ANN401
        self.nodes.append(helper.make_node(operator, list(read), [made], name=name or made, **attributes))
        return made

    def written(self) -> bytes:
        """Return the ONNX file."""
        graph = helper.make_graph(self.nodes, "layers", self.entering, self.leaving, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()
        return content
