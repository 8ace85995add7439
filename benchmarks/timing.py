"""Time files in turns: one image on one thread, one image on two, eight images on one."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from runtimes import open_file

from qface_toolkit.environment import usable_cores
from qface_toolkit.runtimes.latency import Latency, measure_latency, times_faster

BATCH = 8
Files = Mapping[str, tuple[str, Path]]
"""The runtime and the file of each contender."""


def time_files(files: Files, inputs: np.ndarray, rounds: int, reference: str) -> dict[str, dict[str, Any]]:
    """Return the times of each file; `inputs` are eight images, `reference` is what "times faster" is against."""
    single = _measured(files, inputs[:1], threads=1, rounds=rounds)
    batches = _measured(files, inputs, threads=1, rounds=max(10, rounds // 4))
    figures = {
        key: {
            "p50_ms": _median_with_interval(one.samples_ms),
            "times_faster": round(times_faster(single[reference], one), 3),
            "images_per_s_batch_8": round(1e3 * BATCH / batches[key].p50_ms, 1),
        }
        for key, one in single.items()
    }
    if usable_cores() > 1:
        for key, one in _measured(files, inputs[:1], threads=2, rounds=rounds).items():
            figures[key]["p50_ms_2_threads"] = round(one.p50_ms, 3)
    return figures


def _measured(files: Files, inputs: np.ndarray, threads: int, rounds: int) -> dict[str, Latency]:
    calls: dict[str, Callable[[], object]] = {
        key: partial(open_file(runtime, file, threads, len(inputs)), inputs) for key, (runtime, file) in files.items()
    }
    return measure_latency(calls, rounds=rounds)


def _median_with_interval(samples: Sequence[float]) -> dict[str, float]:
    """Return the median and the 95 % interval that order statistics give it, whatever the distribution."""
    ordered, count = np.sort(samples), len(samples)
    reach = 1.96 * np.sqrt(count) / 2
    low, high = max(0, int(np.floor(count / 2 - reach))), min(count - 1, int(np.ceil(count / 2 + reach)))
    ends = {"value": float(np.median(ordered)), "low": float(ordered[low]), "high": float(ordered[high])}
    return {name: round(number, 3) for name, number in ends.items()}
