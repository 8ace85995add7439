"""How fast is what is meant for this machine: the float model and its artifacts, timed in turns."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qface_toolkit.backends import BACKENDS, Embed, float_files, foreign
from qface_toolkit.methods import Progress
from qface_toolkit.models import FloatModel
from qface_toolkit.result.job import Job
from qface_toolkit.runtimes import FLOAT_ARTIFACT, ONNX_RUNTIME, TORCH, Runtime
from qface_toolkit.runtimes.latency import Latency, measure_latency, times_faster
from qface_toolkit.runtimes.time_ratio import time_ratio
from qface_toolkit.sources import Crop

LATENCY_ROUNDS = 60
LATENCY_BUDGET_S = 30.0
"""Only a network of many billion operations meets this; small ones end after LATENCY_ROUNDS."""

Opener = Callable[[], Callable[[], object]]
"""Opens a model, and returns what runs it once."""

BOUT_ROUNDS = 40
FEWEST_BOUTS = 4
WARMUP_ROUNDS = 3
LEAST_S = 3.0
"""Seconds that are measured at least: a neighbour's burst of half a second must not be all that was seen."""
PRECISE_SHARE = 0.012
"""A ratio is known well enough when half the width of its interval is this share of it."""


def take_turns(job: Job, path: Callable[[str], Path], crop: Crop) -> dict[str, Latency]:
    """Time everything that is meant for this machine on one crop [1, height, width, 3], on one thread, in turns.

    The float model is timed in each runtime, under the name that the runtime knows it by.
    """
    one = job.model.spec.preprocess(crop)
    torch.set_num_threads(1)
    try:
        return measure_latency(_calls(job, path, one), rounds=LATENCY_ROUNDS, budget_s=LATENCY_BUDGET_S)
    finally:
        torch.set_num_threads(job.threads)


def _calls(job: Job, path: Callable[[str], Path], example: npt.NDArray[np.float32]) -> dict[str, Callable[[], object]]:
    calls: dict[str, Callable[[], object]] = {str(TORCH.float_name): partial(frozen(job.model, example), example)}
    for one in float_files():
        calls[one.artifact] = one.repeat(path(one.artifact), example, threads=1)
    for name in job.recipe.backends:
        backend = BACKENDS.get(name)
        if foreign(backend) is None:
            calls[backend.artifact] = backend.repeat(path(backend.artifact), example, threads=1)
        beside = backend.runtime.float_name
        if beside is not None and beside not in calls:
            calls[beside] = backend.repeat(path(FLOAT_ARTIFACT), example, threads=1)
    return calls


def float_names(job: Job) -> dict[str, str]:
    """Return what the float model is called in each runtime that a job times it in."""
    runtimes = (TORCH, ONNX_RUNTIME, *(BACKENDS.get(name).runtime for name in job.recipe.backends))
    return {one.name: one.float_name for one in runtimes if one.float_name is not None}


def speeds(runtime: Runtime, latency: Latency | None, latencies: Mapping[str, Latency]) -> dict[str, Any]:
    """Return how many times as fast as the float files for its runtime something is."""
    if latency is None:
        return {}
    references = {"times_faster": runtime.float_name, "times_faster_than_fast": runtime.fast_name}
    return {key: times_faster(latencies[name], latency) for key, name in references.items() if name is not None}


def frozen(model: FloatModel, example: npt.NDArray[np.float32]) -> Embed:
    """Return the float network in torch's fastest plain form, traced and frozen as the int8 archives are."""
    with torch.no_grad():
        frozen = torch.jit.freeze(torch.jit.trace(model.network.eval(), torch.from_numpy(example)))  # type: ignore[no-untyped-call]  # torch ships it so

    def run(inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            embeddings: npt.NDArray[np.float32] = frozen(torch.from_numpy(inputs)).numpy()
            return embeddings

    return run


def measure_enough(
    openers: Mapping[str, Opener], ratios: Mapping[str, str], longest_s: float, progress: Progress
) -> dict[str, Latency]:
    """Time models in turns until every ratio (name -> reference) is known well enough, or the seconds are used up.

    Each bout opens the models anew: where their weights land in memory makes one run differ from another.
    """
    samples: dict[str, list[float]] = {name: [] for name in openers}
    started, bouts = time.perf_counter(), 0
    while True:
        left = longest_s - (time.perf_counter() - started)
        calls = {name: opened() for name, opened in openers.items()}
        found = measure_latency(calls, rounds=BOUT_ROUNDS, warmup=WARMUP_ROUNDS, seed=bouts, budget_s=max(left, 0))
        for name, latency in found.items():
            samples[name] += latency.samples_ms
        bouts += 1
        spent = time.perf_counter() - started
        progress(min(int(spent), int(longest_s)), int(longest_s))
        # The next bout would take as long as those before did.
        enough = bouts >= FEWEST_BOUTS and spent >= LEAST_S and _precise(samples, ratios)
        if spent * (bouts + 1) / bouts > longest_s or enough:
            return {name: Latency(tuple(found)) for name, found in samples.items()}


def _precise(samples: Mapping[str, Sequence[float]], ratios: Mapping[str, str]) -> bool:
    found = [time_ratio(samples[name], samples[reference]) for name, reference in ratios.items()]
    return all(ratio is not None and ratio.half_width <= PRECISE_SHARE for ratio in found)
