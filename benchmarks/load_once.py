"""Load a file in its runtime, run it once, and print what that took: the program that weigh() starts.

    python benchmarks/load_once.py RUNTIME FILE INPUT.npy

A process of its own, because memory that is given back stays counted, and because a second load finds everything warm.
"""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
from runtimes import PACKAGES, open_file


def weigh(runtime: str, file: Path, inputs: Path, processes: int) -> dict[str, float]:
    """Return the medians over some processes: `load_ms`, `first_ms` (the first image) and `peak_memory_bytes`."""
    command = [sys.executable, __file__, runtime, str(file), str(inputs)]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(processes)]
    found = [json.loads(run.stdout.splitlines()[-1]) for run in runs]
    return {name: median(one[name] for one in found) for name in found[0]}


def peak_memory_bytes() -> int:
    """Return the most memory that this process has held, which Linux knows."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Load and run; importing the runtime is not timed, but its memory counts."""
    runtime, file, inputs = sys.argv[1], Path(sys.argv[2]), np.load(sys.argv[3])
    importlib.import_module(PACKAGES[runtime])
    started = time.perf_counter()
    run = open_file(runtime, file, threads=1)
    loaded = time.perf_counter()
    run(inputs)
    done = time.perf_counter()
    figures = {"load_ms": (loaded - started) * 1e3, "first_ms": (done - loaded) * 1e3}
    print(json.dumps({**figures, "peak_memory_bytes": peak_memory_bytes()}))


if __name__ == "__main__":
    main()
