"""Run results' ONNX files in the ONNX Runtime of this Python, which need have nothing else but numpy.

    python benchmarks/one_runtime.py OUT...

Prints one JSON object: for each result and file the verdict on its golden vectors and how many times as fast as
float.onnx it is. `runtime_versions.py` calls it in one environment a release.
"""

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
import onnxruntime

from qface_toolkit import verifier
from qface_toolkit.runtimes.latency import measure_latency, times_faster

FLOATS = verifier.FLOAT_FILES
ROUNDS = 100
BUDGET_S = 60.0


def check(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the verdict on each ONNX file that golden.npz knows, and the speed of those that are for this machine."""
    golden = verifier.read_arrays((folder / verifier.GOLDEN).read_bytes())
    found: dict[str, dict[str, Any]] = {}
    calls: dict[str, Callable[[], object]] = {}
    for file in verifier.verify(folder).files:
        found[file.name] = vars(file)
        known = verifier.about_of(golden, file.name)
        if file.ran and (known is None or known.machine in (None, "x86")):
            calls[file.name] = once(folder / file.name, golden)
    for name, figures in speeds(calls).items():
        found[name] |= figures
    return found


def once(path: Path, golden: Mapping[str, npt.NDArray[Any]]) -> Callable[[], object]:
    """Load a file and return what runs it on the first golden image."""
    session = verifier.open_session(path.read_bytes())
    ((name, images),) = verifier.images_of(session, golden).items()
    return partial(session.run, None, {name: images[:1]})


def speeds(calls: Mapping[str, Callable[[], object]]) -> dict[str, dict[str, float]]:
    """Return the median time of each call on one image and how many times as fast as float.onnx it is, in turns."""
    latencies = measure_latency(calls, rounds=ROUNDS, budget_s=BUDGET_S)
    reference = latencies[FLOATS[0]]
    return {
        name: {"p50_ms": latency.p50_ms, "times_faster": times_faster(reference, latency)}
        for name, latency in latencies.items()
    }


def main() -> None:
    """Check the folders named on the command line."""
    folders = [Path(argument) for argument in sys.argv[1:]]
    versions = {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__}
    print(json.dumps({"versions": versions, "results": {folder.name: check(folder) for folder in folders}}))


if __name__ == "__main__":
    main()
