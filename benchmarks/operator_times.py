"""Time the operators of the table that the package ships, fit what lies between, and check it on whole networks.

    python benchmarks/operator_times.py --write
    python benchmarks/operator_times.py NAME[=FILE]... --save benchmarks/results/operator_times.json

A model is NAME=FILE, or the name of an architecture to build with random weights; what is checked is the predicted time
of int8.x86.onnx and of float.fast.onnx against medians of whole calls, on one thread. Run it on a quiet machine with
VNNI: the table decides what every later compression writes.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from operator_shapes import Network, known_networks, network_of, random_rows, rows_of
from torch import fx

from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends._float_files import export_float_fast
from qface_toolkit.backends._onnxruntime import new_session, session_options
from qface_toolkit.backends.onnx_qdq.measure_times import measure_times
from qface_toolkit.backends.onnx_qdq.predict import predict_float, predict_network, written
from qface_toolkit.canonical.edit import ensure_shapes
from qface_toolkit.environment import record_environment
from qface_toolkit.models import ModelSpec
from qface_toolkit.runtimes.latency import measure_latency
from qface_toolkit.times import TABLE, Row, TimeTable, read_table
from qface_toolkit.times.table import features, kind_of

FEWEST_SAMPLES = 3
BOUTS = 3
"""Times that every row is measured, minutes apart: the median counts."""
FEW_ROUNDS, SMALL_MS = 25, 6.0
"""Rounds of a network, and the time of those in which a microsecond more for each operator can be seen."""
LAYER_KERNELS = frozenset({"Conv", "QLinearConv", "Gemm", "QGemm", "FusedGemm"})


def fitted(rows: Mapping[Row, float]) -> dict[str, tuple[float, ...]]:
    """Return costs of features by kind that miss the rows by the smallest shares, none of them below zero."""
    kinds: dict[str, list[Row]] = {}
    for arithmetic, shape in rows:
        kinds.setdefault(kind_of(arithmetic, shape), []).append((arithmetic, shape))
    found: dict[str, tuple[float, ...]] = {}
    for kind, members in sorted(kinds.items()):
        sizes = np.array([features(*row) for row in members]) / np.array([[rows[row]] for row in members])
        found[kind] = tuple(float(f"{cost:.4g}") for cost in non_negative(sizes, np.ones(len(members))))
    return found


def non_negative(sizes: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the least-squares solution without negative numbers: what would be negative is left out."""
    left = list(range(sizes.shape[1]))
    while True:
        costs = np.zeros(sizes.shape[1])
        costs[left] = np.linalg.lstsq(sizes[:, left], wanted, rcond=None)[0]
        worst = min(left, key=lambda place: costs[place])
        if costs[worst] >= 0:
            return costs
        left.remove(worst)


def other_times(networks: Iterable[Network]) -> dict[str, tuple[float, float]]:
    """Return what all other operators of whole files take: of themselves, and of a million numbers."""
    samples: dict[str, list[tuple[float, float]]] = {}
    for network, spec in networks:
        for content in files_of(network, spec).values():
            for kind, numbers, time in profiled(content, spec):
                if kind not in LAYER_KERNELS:
                    samples.setdefault(kind, []).append((numbers / 1e6, time))
    found = {kind: _line(of) for kind, of in sorted(samples.items()) if len(of) >= FEWEST_SAMPLES}
    every = [found[kind] for kind in ("QLinearConcat", "Concat", "Transpose") if kind in found]
    found["concat"] = found.get("Concat", every[0])
    found["move"] = tuple(float(np.median(part)) for part in zip(*every, strict=True))  # type: ignore[assignment]
    return found


def _line(samples: list[tuple[float, float]]) -> tuple[float, float]:
    sizes = np.array([(1.0, numbers) for numbers, _ in samples])
    times = np.array([[max(time, 0.5)] for _, time in samples])
    once, million = non_negative(sizes / times, np.ones(len(samples)))
    return float(f"{once:.4g}"), float(f"{million:.4g}")


def files_of(network: fx.GraphModule, spec: ModelSpec) -> dict[str, bytes]:
    """Return an integer file with any ranges and the fast float file."""
    return {
        "int8.x86.onnx": BACKENDS.get("onnx-x86").lower(written(network, spec, read_table()), {}),
        "float.fast.onnx": export_float_fast(network, spec, {}),
    }


def profiled(content: bytes, spec: ModelSpec, runs: int = 12) -> Iterator[tuple[str, int, float]]:
    """Yield the kind, the numbers of the output and the microseconds of each operator."""
    image = np.zeros((1, *spec.input_shape), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads=1)
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = new_session(content, options)
        for _ in range(runs):
            session.run(None, {"input": image})
        events = json.loads(Path(session.end_profiling()).read_text())
    found: dict[str, list[Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event.get("args", {}).get("op_name"):
            found.setdefault(event["name"], []).append(event)
    for same in found.values():
        shapes = [next(iter(typed.values())) for typed in same[0]["args"]["output_type_shape"]]
        numbers = max(int(np.prod(shape)) for shape in shapes)
        if same[0]["args"]["op_name"] in (
            "NhwcMaxPool",
            "QLinearAveragePool",
            "QLinearGlobalAveragePool",
            "GlobalAveragePool",
        ):
            numbers = int(np.prod(next(iter(same[0]["args"]["input_type_shape"][0].values()))))
        yield same[0]["args"]["op_name"], numbers, float(np.percentile([event["dur"] for event in same[3:]], 25))


def write(networks: list[Network]) -> None:
    """Measure the rows, fit, and write the package's table."""
    for network, spec in networks:
        ensure_shapes(network, spec.input_size, spec.channels)
    wanted = dict.fromkeys(row for network, _ in networks for row in rows_of(network))
    wanted |= dict.fromkeys(random_rows())
    # Beside their like: a small kernel takes half as long again among large ones, which leave nothing in the caches.
    samples: dict[Row, list[float]] = {}
    for bout in range(BOUTS):
        order = sorted(wanted, key=lambda row: (row[1].read + row[1].numbers + row[1].weights, row))
        order = order[bout:] + order[:bout]
        for row, time in measure_times(order, progress=_said).items():
            samples.setdefault(row, []).append(time)
    rows = {row: round(float(np.median(times)), 1) for row, times in samples.items()}
    table = TimeTable(
        dict(sorted(rows.items())), fitted(rows), read_table().others if TABLE.exists() else {"move": (1.0, 300.0)}
    )
    _save(table)
    table = replace(table, others=other_times(networks))
    _save(table)
    _save(calibrated(table, networks))


def _said(done: int, total: int) -> None:
    print(f"\r{done} of {total}", end="", flush=True)


def calibrated(table: TimeTable, networks: Iterable[Network]) -> TimeTable:
    """Return the table with what whole runs take beside their operators' own times.

    The profile makes each operator longer: by how much, short runs with it and without it tell. What is left is a share
    of the time, the same for all.
    """
    networks = list(networks)
    took = [measured(network, spec, FEW_ROUNDS) for network, spec in networks]
    gaps = list[float]()
    for (network, spec), found in zip(networks, took, strict=True):
        for name, content in files_of(network, spec).items():
            if found[name] < SMALL_MS:
                times = [time for _, _, time in profiled(content, spec)]
                gaps.append((1000 * found[name] - sum(times)) / len(times))
    table = replace(table, each=round(float(np.median(gaps)), 2), share=1.0)
    told = [predicted(network, spec, table) for network, spec in networks]
    shares = [found[name] / one[name] for found, one in zip(took, told, strict=True) for name in found]
    return replace(table, share=round(float(np.median(shares)), 3))


def _save(table: TimeTable) -> None:
    environment = record_environment(0, 1).model_dump(mode="json")
    columns = [
        "arithmetic",
        "inputs",
        "outputs",
        "kernel",
        "columns",
        "stride",
        "groups",
        "height",
        "width",
        "fold",
        "us",
    ]
    rows = ",\n".join(json.dumps(row) for row in table.as_plain())
    head = {
        "machine": "x86",
        "environment": environment,
        "fits": table.fits,
        "others": table.others,
        "each": table.each,
        "share": table.share,
    }
    lines = "\n".join(f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items())
    TABLE.write_text(f'{{{lines}\n"columns": {json.dumps(columns)},\n"rows": [\n{rows}\n]}}\n')
    read_table.cache_clear()


def left_out(table: TimeTable) -> dict[str, dict[str, float]]:
    """Return by kind how far the table is off on shapes whose own row it must do without."""
    errors: dict[str, list[float]] = {}
    for (arithmetic, shape), time in table.rows.items():
        found = table.estimate(shape, arithmetic, without=shape)
        errors.setdefault(kind_of(arithmetic, shape), []).append(abs(np.log(found / time)))
    return {
        kind: {"rows": len(of), "median": round(float(np.median(of)), 3), "p90": round(float(np.percentile(of, 90)), 3)}
        for kind, of in sorted(errors.items())
    }


def predicted(network: fx.GraphModule, spec: ModelSpec, times: TimeTable) -> dict[str, float]:
    """Return the milliseconds that the files of a network should take."""
    target = BACKENDS.get("onnx-x86").target
    return {
        "int8.x86.onnx": predict_network(network, spec, target, times).ms,
        "float.fast.onnx": predict_float(network, spec, times).ms,
    }


def measured(network: fx.GraphModule, spec: ModelSpec, rounds: int) -> dict[str, float]:
    """Return the milliseconds that the files of a network take, in turns."""
    image = np.zeros((1, *spec.input_shape), np.float32)
    sessions = {
        name: new_session(content, session_options(1, spinning=True))
        for name, content in files_of(network, spec).items()
    }
    calls = {name: (lambda one=one: one.run(None, {"input": image})) for name, one in sessions.items()}
    found = measure_latency(calls, rounds=rounds, budget_s=20)
    return {name: latency.p50_ms for name, latency in found.items()}


def checked(wanted: str, rounds: int) -> dict[str, Any]:
    """Return the predicted and the measured milliseconds of the files of a network."""
    network, spec = network_of(wanted)
    told, took = predicted(network, spec, read_table()), measured(network, spec, rounds)
    return {name: {"predicted": round(told[name], 3), "measured": round(took[name], 3)} for name in took}


def main() -> None:
    """Measure, write and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="NAME[=FILE]")
    parser.add_argument("--write", action="store_true", help="measure the package's table anew")
    parser.add_argument("--calibrate", action="store_true", help="measure whole networks anew for the table as it is")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.write:
        write(known_networks())
    if options.calibrate:
        _save(calibrated(read_table(), known_networks()))
    results: dict[str, Any] = {"left out": left_out(read_table()), "networks": {}}
    print(json.dumps(results["left out"], indent=1))
    for wanted in options.models:
        results["networks"][wanted.partition("=")[0]] = found = checked(wanted, options.rounds)
        shares = {name: round(one["predicted"] / one["measured"] - 1, 3) for name, one in found.items()}
        print(wanted.partition("=")[0], json.dumps(found), shares, flush=True)
    if options.save:
        results["environment"] = record_environment(0, 1).model_dump(mode="json")
        options.save.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
