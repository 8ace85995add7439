"""What it takes to load an ONNX file: the time until it can run, and the memory at the peak of that.

Every load has a process of its own, with ONNX Runtime imported and nothing loaded yet: memory that was given back stays
counted, and a second load finds everything warm. These processes are forks of one that has imported the runtime, which
gives the same bytes and milliseconds as starting each anew and takes a fifth of the time. The files take turns, as in
`runtimes.latency`, and the disk's cache holds them.
"""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from qface_toolkit.backends import BACKENDS, float_files

_MAIN = "from qface_toolkit.evidence._load_once import main; main()"
PROGRAM = f"import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); {_MAIN}"
LOADS = 3
"""Processes that each file is loaded in; a small file takes some 0.15 s in each."""
NOT_LOADED = "loading is measured in ONNX Runtime only"
LONGEST_S = 3600.0
"""For all loads; each ends after ten minutes."""


@dataclass(frozen=True)
class Load:
    """The milliseconds of each load, and the bytes by which the process's peak memory grew in it."""

    samples_ms: tuple[float, ...]
    samples_bytes: tuple[int, ...]

    @property
    def p50_ms(self) -> float:
        """The median time, in milliseconds."""
        return median(self.samples_ms)

    @property
    def peak_bytes(self) -> int:
        """The median growth of peak memory, in bytes: over that of a process that has only imported the runtime."""
        return round(median(self.samples_bytes))


def measure_loads(
    files: Mapping[Path, Mapping[str, bool]], *, rounds: int = 3, seed: int = 0
) -> dict[Path, Load | str]:
    """Load every file once a round, on one thread, and return what that took, or in one line why it could not be had.

    Each has its options: with `signed`, signed activations shall run on integers on this machine, too.
    """
    order, shuffle = list(files), random.Random(seed).shuffle
    turns: list[Path] = []
    for _ in range(rounds):
        shuffle(order)
        turns += order
    told = _load_all([(file, files[file].get("signed", False)) for file in turns])
    if isinstance(told, str):
        return dict.fromkeys(files, told)
    return {file: _of_file([one for turn, one in zip(turns, told, strict=True) if turn == file]) for file in files}


def loads(path: Callable[[str], Path], backends: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return what loading takes, by the files' names: figures of a report, or why there are none."""
    chosen = [BACKENDS.get(name) for name in backends]
    told: dict[str, dict[str, Any]] = {one.artifact: {"load_missing": NOT_LOADED} for one in chosen}
    options = {one.artifact: one.loading for one in float_files()} | {one.artifact: one.loading for one in chosen}
    files = {name: path(name) for name, wanted in options.items() if wanted is not None}
    found = measure_loads({file: options[name] or {} for name, file in files.items()}, rounds=LOADS)
    return told | {name: _figures(found[file]) for name, file in files.items()}


def _figures(load: Load | str) -> dict[str, Any]:
    if isinstance(load, str):
        return {"load_missing": load}
    return {"load_ms": load.p50_ms, "load_memory_bytes": load.peak_bytes}


def _of_file(told: Sequence[dict[str, Any]]) -> Load | str:
    for one in told:
        if "error" in one:
            return _failed(one["error"])
    return Load(tuple(float(one["ms"]) for one in told), tuple(int(one["bytes"]) for one in told))


def _load_all(turns: Sequence[tuple[Path, bool]]) -> list[dict[str, Any]] | str:
    """Return what the program tells of each turn, or why it tells nothing."""
    # The child finds the package where this process found it, and looks for nothing in the folder it stands in.
    places = json.dumps([place for place in sys.path if place])
    wanted = json.dumps([(str(file.absolute()), signed) for file, signed in turns]).encode()
    command = [sys.executable, "-I", "-c", PROGRAM, places]
    try:
        done = subprocess.run(command, input=wanted, capture_output=True, timeout=LONGEST_S, check=True)
        told = [json.loads(line) for line in done.stdout.splitlines()]
        return told if len(told) == len(turns) else _failed(f"{len(told)} of {len(turns)} were told of")
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return _failed(last or f"exit code {error.returncode}")
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return _failed(str(error))


def _failed(why: str) -> str:
    return f"loading it in a process of its own failed: {' '.join(why.split())}"
