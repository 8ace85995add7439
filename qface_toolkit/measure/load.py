"""What it takes to load an ONNX file: the time until it can run, and the memory at the peak of that.

Every load has a process of its own, with ONNX Runtime imported and nothing loaded yet: memory that was given back stays
counted, and a second load finds everything warm. The files take turns, as in `measure.latency`, and the disk's cache
holds them.
"""

import json
import random
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from qface_toolkit.measure._load_once import SIGNED

_MAIN = "from qface_toolkit.measure._load_once import main; main()"
PROGRAM = f"import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); {_MAIN}"
LONGEST_S = 600.0


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
    files: Sequence[Path], *, signed: Collection[Path] = (), rounds: int = 3, seed: int = 0
) -> dict[Path, Load | str]:
    """Load every file once a round, on one thread, and return what that took, or in one line why it could not be had.

    `signed` holds the files whose signed activations shall run on integers on this machine, too.
    """
    found: dict[Path, list[tuple[float, int]]] = {file: [] for file in files}
    failed: dict[Path, str] = {}
    order, shuffle = list(files), random.Random(seed).shuffle
    for _ in range(rounds):
        shuffle(order)
        for file in [one for one in order if one not in failed]:
            one = _load_once(file, file in signed)
            if isinstance(one, str):
                failed[file] = one
            else:
                found[file].append(one)
    return {file: failed.get(file) or _load(found[file]) for file in files}


def _load(samples: Sequence[tuple[float, int]]) -> Load:
    return Load(tuple(ms for ms, _ in samples), tuple(size for _, size in samples))


def _load_once(file: Path, signed: bool) -> tuple[float, int] | str:
    """Return milliseconds and bytes, or why there are none."""
    # The child finds the package where this process found it, and looks for nothing in the folder it stands in.
    places = json.dumps([place for place in sys.path if place])
    command = [sys.executable, "-I", "-c", PROGRAM, places, str(file.absolute()), *([SIGNED] if signed else [])]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LONGEST_S, check=True)
        told = json.loads(done.stdout)
        return float(told["ms"]), int(told["bytes"])
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return f"loading it in a process of its own failed: {last or f'exit code {error.returncode}'}"
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
        return f"loading it in a process of its own failed: {error}"
