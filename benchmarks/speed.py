"""Time int8.x86.onnx against both float files and against ONNX Runtime's own quantizer, in turns, in one process.

    python benchmarks/speed.py prelu=FILE.ckpt relu6=FILE.pt relu6-onnx=FILE.onnx iresnet50 pocketnet-s-128 \\
        --save benchmarks/results/speed.json

A model is NAME=FILE, or the name of an architecture to build with random weights. One thread, one image; the figures
are medians over rounds of the ratio within a round. A result from another kind of processor than its environment names
is not comparable.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from random_networks import random_network

import qface_toolkit as qf
from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.environment import record_environment
from qface_toolkit.models import FloatModel, load_model
from qface_toolkit.runtimes.latency import Latency, measure_latency, times_faster
from qface_toolkit.sources._sets import find_set

IMAGES = 64
FLOAT, FAST, OURS, PEER = "float.onnx", "float.fast.onnx", "int8.x86.onnx", "quantize_static.onnx"


class Drawings(CalibrationDataReader):
    """The calibration drawings, one image at a time, as the peer wants them."""

    def __init__(self, model: FloatModel) -> None:
        images = find_set("drawings").open(count=IMAGES)
        crops = (images.crop(index)[None] for index in range(IMAGES))
        self.feeds: Iterator[dict[str, np.ndarray]] = ({"input": model.spec.preprocess(crop)} for crop in crops)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next image."""
        return next(self.feeds, None)


def float_model(wanted: str) -> tuple[str, FloatModel]:
    """Return the name and the network that an argument asks for."""
    name, given, path = wanted.partition("=")
    return name, load_model(path) if given else random_network(name)


def write_files(model: FloatModel, folder: Path, recipe: str) -> None:
    """Write our files and the peer's, all calibrated on the same drawings."""
    sets = [f"calibration.count={IMAGES}"]
    qf.compress(model, out=folder, recipe=recipe, sets=sets, backends=["onnx-x86"], force=True)
    quantize_static(
        folder / FLOAT,
        folder / PEER,
        Drawings(model),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def measure(model: FloatModel, folder: Path, rounds: int) -> dict[str, Any]:
    """Return the figures of one model."""
    image = model.spec.preprocess(find_set("drawings-heldout").open(count=1).crop(0)[None])
    runs = {name: open_onnx(folder / name, threads=1) for name in (FLOAT, FAST, OURS, PEER)}
    times = measure_latency({name: (lambda run=run: run(image)) for name, run in runs.items()}, rounds=rounds)
    fusion = BACKENDS.get("onnx-x86").inspect(folder / OURS)
    operators = {f"{kind.kind} ({kind.arithmetic})": kind.count for kind in fusion.kinds()}
    return {
        "p50_ms": {name: round(latency.p50_ms, 3) for name, latency in times.items()},
        "times_faster_than_float": {name: _ratio(times, FLOAT, name) for name in (FAST, OURS, PEER)},
        "times_faster_than_fast": {name: _ratio(times, FAST, name) for name in (OURS, PEER)},
        "size_ratio": round((folder / OURS).stat().st_size / (folder / FLOAT).stat().st_size, 4),
        "operators": operators,
        "rounds": rounds,
    }


def _ratio(times: dict[str, Latency], reference: str, other: str) -> float:
    return round(times_faster(times[reference], times[other]), 3)


def main() -> None:
    """Measure every model and print and save what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME[=FILE]")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--recipe", default="int8-fast")
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    results = {}
    for wanted in options.models:
        name, model = float_model(wanted)
        with tempfile.TemporaryDirectory() as folder:
            write_files(model, Path(folder) / "out", options.recipe)
            results[name] = measure(model, Path(folder) / "out", options.rounds)
        print(name, json.dumps(results[name], indent=1), flush=True)
    if options.save:
        environment = record_environment(0, 1).model_dump(mode="json")
        options.save.write_text(json.dumps({"environment": environment, "models": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
