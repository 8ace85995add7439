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

from qface_toolkit.runtimes.latency import measure_latency, times_faster
from qface_toolkit.scoring.verdicts import judge_file

FLOATS = ("float.onnx", "float.fast.onnx")
ROUNDS = 100
BUDGET_S = 60.0

Floats = npt.NDArray[np.float32]


def is_for_arm(folder: Path, name: str) -> bool:
    """Tell whether a file holds signed activations, which x86 runs on integers only if told to."""
    exported = json.loads((folder / "manifest.json").read_text()).get("exported", {})
    return name == "int8.arm.onnx" or exported.get(name, {}).get("backend") == "onnx-arm"


def open_file(path: Path, *, signed: bool) -> onnxruntime.InferenceSession:
    """Load a file for one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if signed:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, golden: Mapping[str, npt.NDArray[Any]], count: int) -> Floats:
    """Return the embeddings of the first golden images, given as the file wants them."""
    name = session.get_inputs()[0].name
    embeddings: Floats = session.run(None, {name: golden["image" if name == "image" else "inputs"][:count]})[0]
    return embeddings


def check(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the verdict on each ONNX file that golden.npz knows, and the speed of those that are for this machine."""
    golden = dict(np.load(folder / "golden.npz", allow_pickle=False))
    names = [name for name in (*FLOATS, *golden) if name.endswith(".onnx") and (folder / name).is_file()]
    found: dict[str, dict[str, Any]] = {}
    calls: dict[str, Callable[[], object]] = {}
    for name in names:
        signed = is_for_arm(folder, name)
        try:
            session = open_file(folder / name, signed=signed)
            got = run(session, golden, len(golden["inputs"]))
        except Exception as error:  # noqa: BLE001 - each release has error classes of its own
            reason = str(error).partition("\n")[0].replace(str(folder), folder.name)
            found[name] = {"verdict": "refused", "reason": reason[:300]}
            continue
        found[name] = vars(judge_file(name, golden.get(name, golden["float"]), golden["float"], got))
        if not signed:
            calls[name] = partial(run, session, golden, 1)
    for name, figures in speeds(calls).items():
        found[name] |= figures
    return found


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
