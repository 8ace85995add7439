"""Time int8.openvino.onnx against NNCF's int8 form of the same float model, in turns, in OpenVINO.

    python benchmarks/openvino_peer.py prelu=FILE.ckpt iresnet50 --save benchmarks/results/openvino_peer.json

Needs the packages openvino and nncf. Both are calibrated on the same drawings. One thread, one image; the figures are
medians over rounds of the ratio within a round.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
from random_networks import random_network

import qface_toolkit as qf
from qface_toolkit.environment import record_environment
from qface_toolkit.models import FloatModel, load_model
from qface_toolkit.runtimes.latency import measure_latency, times_faster
from qface_toolkit.scoring.agreement import measure_agreement
from qface_toolkit.sources._sets import find_set

IMAGES, AGREEMENT_IMAGES = 64, 32
FLOAT, OURS = "float.onnx", "int8.openvino.onnx"
PRESETS = {"nncf performance": nncf.QuantizationPreset.PERFORMANCE, "nncf mixed": nncf.QuantizationPreset.MIXED}
OPTIONS = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


def drawings(model: FloatModel, name: str, count: int) -> np.ndarray:
    """Return preprocessed drawings of a set."""
    images = find_set(name).open(count=count)
    return model.spec.preprocess(np.stack([images.crop(index) for index in range(count)]))


def models(model: FloatModel, folder: Path) -> dict[str, Any]:
    """Return every form as an OpenVINO model that takes one image."""
    core, inputs = ov.Core(), drawings(model, "drawings", IMAGES)
    qf.compress(model, out=folder, recipe="int8-fast", sets=[f"calibration.count={IMAGES}"], backends=["openvino"])
    found = {name: core.read_model(folder / name) for name in (FLOAT, OURS)}
    for name, preset in PRESETS.items():
        calibration = nncf.Dataset([image[None] for image in inputs])
        found[name] = nncf.quantize(core.read_model(folder / FLOAT), calibration, preset=preset, subset_size=IMAGES)
    for one in found.values():
        one.reshape([1, 3, *model.spec.input_size])
    return found


def opened(model: Any) -> Callable[[np.ndarray], np.ndarray]:  # noqa: ANN401 - OpenVINO's model
    """Return what runs a model on one image."""
    request = ov.Core().compile_model(model, "CPU", OPTIONS).create_infer_request()
    return lambda image: np.array(request.infer({0: image})[0])


def measure(model: FloatModel, folder: Path, rounds: int) -> dict[str, Any]:
    """Return the figures of one network."""
    images = drawings(model, "drawings-heldout", AGREEMENT_IMAGES)
    runs = {name: opened(one) for name, one in models(model, folder).items()}
    times = measure_latency({name: partial(run, images[:1]) for name, run in runs.items()}, rounds=rounds)
    embeddings = {name: np.concatenate([run(image[None]) for image in images]) for name, run in runs.items()}
    return {
        "p50_ms": {name: round(latency.p50_ms, 3) for name, latency in times.items()},
        "cosine_mean_to_float": {
            name: round(measure_agreement(embeddings[FLOAT], found).cosine_mean, 5)
            for name, found in embeddings.items()
        },
        "ours_times_faster_than": {
            name: round(times_faster(times[name], times[OURS]), 3) for name in times if name != OURS
        },
    }


def main() -> None:
    """Measure every network and print and save what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME[=FILE]")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    results = {}
    for wanted in options.models:
        name, given, path = wanted.partition("=")
        model = load_model(path) if given else random_network(name)
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(model, Path(folder) / "out", options.rounds)
        print(name, json.dumps(results[name], indent=1), flush=True)
    if options.save:
        versions = {"openvino": ov.__version__, "nncf": nncf.__version__}
        environment = record_environment(0, 1).model_dump(mode="json")
        options.save.write_text(
            json.dumps({"environment": environment, "peer_versions": versions, "models": results}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
