"""How much of the runtime's own throughput an evaluation gets: embedding images against running prepared batches.

    python benchmarks/embedding_throughput.py OUT/float.onnx OUT/int8.x86.onnx --threads 1 2

The runtime is fed inputs that were prepared before, at each batch size; the evaluation is given decoded crops, so that
decoding is left apart and preprocessing, batching and checking are in. All take turns in one process; what is printed
is the median over rounds of images a second, and of the ratio within a round to the best batch size.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from qface_toolkit.environment import record_environment
from qface_toolkit.evaluation import BATCH, Embedder, embed_images
from qface_toolkit.framing import STANDARD, Frame
from qface_toolkit.result.opening import Wanted, open_embedder
from qface_toolkit.runtimes.latency import Latency, measure_latency, times_faster
from qface_toolkit.sources import Crop, find_set, load_crops

BATCHES = (1, 2, 4, 8, 16, 32)


class Decoded:
    """Crops in memory, as images to embed."""

    def __init__(self, crops: Crop) -> None:
        self.crops = crops

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.crops)

    def crop(self, index: int, frame: Frame = STANDARD) -> Crop:
        """Return one of them."""
        return frame.take(self.crops[index])

    def name(self, index: int) -> str:
        """Return its number."""
        return str(index)

    def digest(self, index: int) -> str:
        """Return nothing: there is no cache."""
        return ""


def run_runtime(model: Embedder, inputs: np.ndarray, batch: int) -> None:
    """Run prepared inputs in batches."""
    for start in range(0, len(inputs), batch):
        model.run(inputs[start : start + batch])


def measure(path: Path, crops: Crop, threads: int, rounds: int, loaders: int) -> dict[str, Any]:
    """Return images a second of the runtime at each batch size and of the evaluation, and the ratio."""
    model = open_embedder(path, Wanted(facts={}, threads=threads))
    inputs, images = model.inputs(crops), Decoded(crops)
    calls: dict[str, Any] = {
        str(batch): (lambda batch=batch: run_runtime(model, inputs, batch)) for batch in BATCHES if batch <= len(crops)
    }
    calls["evaluation"] = lambda: embed_images(model, images, flip=False, threads=loaders)
    times = measure_latency(calls, rounds=rounds, warmup=1)
    best = min(set(calls) - {"evaluation"}, key=lambda name: times[name].p50_ms)
    return {
        "model": path.name,
        "threads": threads,
        "images_per_second": {name: round(_rate(time, len(crops)), 1) for name, time in times.items()},
        "best_batch": int(best),
        "evaluation_batch": BATCH,
        "ratio_to_best": round(times_faster(times[best], times["evaluation"]), 4),
        "ratio_to_same_batch": round(times_faster(times[str(BATCH)], times["evaluation"]), 4),
        "ratio_of_batches": {name: round(times_faster(times["1"], time), 4) for name, time in times.items()},
    }


def _rate(time: Latency, images: int) -> float:
    return images / time.p50_ms * 1e3


def main() -> None:
    """Measure the models named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+", type=Path)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of the runtime")
    parser.add_argument("--loaders", type=int, default=2, help="threads that preprocess ahead")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--save", type=Path)
    wanted = parser.parse_args()
    crops = load_crops(find_set("drawings-heldout").open(count=wanted.images))
    results = []
    for path in wanted.model:
        for threads in wanted.threads:
            results.append(measure(path, crops, threads, wanted.rounds, wanted.loaders))
            print(json.dumps(results[-1]), flush=True)
    if wanted.save:
        environment = record_environment(0, max(wanted.threads)).model_dump(mode="json")
        wanted.save.write_text(json.dumps({"environment": environment, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
