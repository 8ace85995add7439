"""Run ONNX files on an emulated ARM processor, between lines that say which: the part of `arm_forms.py` over there.

    python arm_guest.py optimise FOLDER INTO    # what the runtime makes of each file, so that loading it takes little
    python arm_guest.py run FOLDER              # each on one thread

Needs numpy and onnxruntime. First of all it prints where the runtime's code lies in memory.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

LIBRARY = "onnxruntime_pybind11_state"


def code_ranges() -> str:
    """Return the addresses of the runtime's code as the emulator's log filter wants them."""
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    spans = [line[0].split("-") for line in mapped if LIBRARY in line[-1] and "x" in line[1]]
    return ",".join(f"0x{low}..0x{int(high, 16) - 1:x}" for low, high in spans)


def session_of(file: Path, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    """Load a file for one thread as it is, or optimise it for this processor into another."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    if optimised:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(str(file), options)


def run(file: Path) -> None:
    """Run a file on one random image, once to have everything set up and once more between two marks."""
    session = session_of(file)
    entering = session.get_inputs()[0]
    image = np.random.default_rng(0).standard_normal((1, *entering.shape[1:])).astype(np.float32)
    session.run(None, {entering.name: image})
    print("BEGIN", file.name, flush=True)
    session.run(None, {entering.name: image})
    print("END", file.name, flush=True)


def main() -> None:
    """Do what the command line says."""
    print("CODE", code_ranges(), flush=True)
    task, folder = sys.argv[1], Path(sys.argv[2])
    files = sorted(folder.iterdir())
    if task == "optimise":
        for file in files:
            session_of(file, Path(sys.argv[3]) / file.name)
    else:
        for file in files:
            run(file)


if __name__ == "__main__":
    main()
