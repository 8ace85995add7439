"""Time models beside each other, in turns: checkpoints, ONNX files, archives and whole results.

Images are prepared before, so that only the networks are timed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from qface_toolkit.backends import BACKENDS, Backend
from qface_toolkit.backends._onnxruntime import ERRORS, repeat_onnx
from qface_toolkit.backends._open import backend_of, open_content
from qface_toolkit.backends._openvino import repeat_openvino
from qface_toolkit.environment import Environment, record_environment
from qface_toolkit.errors import ArtifactError, MeasurementError
from qface_toolkit.evidence.speed import foreign, frozen
from qface_toolkit.methods import Progress
from qface_toolkit.models import ModelSpec, load_model
from qface_toolkit.result.golden import held_out
from qface_toolkit.result.job import Tell, silent
from qface_toolkit.result.opening import Wanted, _input_of, open_embedder, result_files
from qface_toolkit.runtimes import FAST_ARTIFACT, FLOAT_ARTIFACT
from qface_toolkit.runtimes.latency import Latency, measure_latency
from qface_toolkit.runtimes.time_ratio import Interval, time_ratio
from qface_toolkit.untrusted.limits import limited_memory, limited_time
from qface_toolkit.untrusted.onnx import read_onnx

Inputs = npt.NDArray[np.float32]
Opener = Callable[[], Callable[[], object]]
"""Opens a model, and returns what runs it once."""
_USUAL = ModelSpec("model", (112, 112), 1)
BOUT_ROUNDS = 40
FEWEST_BOUTS = 4
WARMUP_ROUNDS = 3
PRECISE_SHARE = 0.012
"""A ratio is known well enough when half the width of its interval is this share of it."""


def repeat_file(
    file: Path, content: bytes, backend: Backend | None, inputs: Inputs, threads: int
) -> Callable[[], object]:
    """Open an ONNX file by its bytes that were vetted, and return what runs it on these inputs, prepared once."""
    if backend is not None and backend.runtime == "openvino":
        return repeat_openvino(file, inputs, threads, content)
    signed = backend is not None and backend.engine == "arm"
    return repeat_onnx(file, inputs, threads, content=content, signed_allowed=signed)


def vetted(file: Path, content: bytes, backend: Backend | None, inputs: Inputs) -> bytes:
    """Run an ONNX file that anybody may have written once, within bounds of memory and time, and return its bytes.

    `content` are these as `read_onnx` gave them.

    Raises:
        QFaceError: if it cannot be trusted or run.
    """
    try:
        with limited_memory(file), limited_time() as limits:
            open_content(file, content, 1, backend, limits)(inputs)
    except ERRORS as error:
        what = f"the runtime cannot run the file: {str(error).splitlines()[0]}"
        raise ArtifactError(what, where=str(file), fix="make it again, or give another file") from error
    return content


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
        if spent * (bouts + 1) / bouts > longest_s or (bouts >= FEWEST_BOUTS and _precise(samples, ratios)):
            return {name: Latency(tuple(found)) for name, found in samples.items()}


def _precise(samples: Mapping[str, Sequence[float]], ratios: Mapping[str, str]) -> bool:
    found = [time_ratio(samples[name], samples[reference]) for name, reference in ratios.items()]
    return all(ratio is not None and ratio.half_width <= PRECISE_SHARE for ratio in found)


@dataclass(frozen=True)
class Timed:
    """One model: its size, None for a model inside the package, the time of a call on a batch, and its ratio.

    `latency` has `p50_ms`, `p90_ms` and every round's `samples_ms`. `times_faster` is how many times as fast as the
    first model it is, with a 99 % interval; None for the first one.
    """

    name: str
    runtime: str
    size_bytes: int | None
    latency: Latency
    images_per_second: float
    times_faster: Interval | None


@dataclass(frozen=True)
class Benchmark:
    """Models that were timed in turns, and under which conditions."""

    models: tuple[Timed, ...]
    threads: int
    batch: int
    rounds: int
    environment: Environment


@dataclass(frozen=True)
class _Candidate:
    name: str
    runtime: str
    size_bytes: int | None
    call: Callable[[], object]


def benchmark(
    models: Sequence[str | Path],
    *,
    threads: int = 1,
    batch: int = 1,
    rounds: int = 100,
    name: str | None = None,
    tell: Tell = silent,
) -> Benchmark:
    """Time models in turns on batches of drawings; a result's folder stands for its float files and this machine's.

    `threads` are those of each runtime, `batch` is the number of images in a call, `rounds` how often each model is
    called, and `name` the architecture of checkpoints, instead of recognising it.

    Raises:
        QFaceError: whatever the user can mend.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        candidates = [_opened(path, label, threads, batch, name) for path, label in _files(models)]
        tell(f"time {len(candidates)} models, {rounds} rounds")
        found = measure_latency({one.name: one.call for one in candidates}, rounds=rounds)
    finally:
        torch.set_num_threads(before)
    first = found[candidates[0].name]
    timed = tuple(_timed(one, found[one.name], first, batch) for one in candidates)
    return Benchmark(timed, threads, batch, rounds, record_environment(0, threads))


def _files(models: Sequence[str | Path]) -> list[tuple[str | Path, str]]:
    """Return every model to time and its name: its file's, or its path where two files have one name."""
    found: list[str | Path] = []
    for model in models:
        found += _of_result(Path(model)) if result_files(model) else [model]
    found = list(dict.fromkeys(found))
    names = [Path(one).name for one in found]
    return [(one, str(one) if names.count(name) > 1 else name) for one, name in zip(found, names, strict=True)]


def _of_result(folder: Path) -> list[str | Path]:
    mine = [entry.artifact for entry in BACKENDS.entries().values() if foreign(entry) is None]
    return [folder / name for name in (FLOAT_ARTIFACT, FAST_ARTIFACT, *mine) if (folder / name).is_file()]


def _opened(model: str | Path, label: str, threads: int, batch: int, name: str | None) -> _Candidate:
    path = Path(model)
    size = path.stat().st_size if path.is_file() else None
    if path.suffix == ".onnx":
        return _Candidate(label, _onnx_runtime(path), size, _of_onnx(path, threads, batch))
    if path.suffix == ".ts":
        embedder = open_embedder(path, Wanted({}, name, _USUAL, threads))
        example = embedder.spec.preprocess(held_out(batch))
        return _Candidate(label, embedder.runtime, size, partial(embedder.run, example))
    float_model = load_model(model, name=name)
    example = float_model.spec.preprocess(held_out(batch))
    return _Candidate(label, f"torch {torch.__version__}", size, partial(frozen(float_model, example), example))


def _onnx_runtime(path: Path) -> str:
    backend = backend_of(path.name)
    return backend.runtime if backend and backend.runtime != "onnxruntime" else f"onnxruntime {onnxruntime.__version__}"


def _of_onnx(path: Path, threads: int, batch: int) -> Callable[[], object]:
    """Return what runs an ONNX file of anybody's, which need not say how images are prepared: that decides no speed."""
    read = read_onnx(path)
    size, made_for = _input_of(read.model, path)
    if made_for not in (None, batch):
        what = f"the file is made for {made_for} images at a time, not for {batch}"
        raise MeasurementError(what, where=str(path), fix=f"time it with --batch {made_for}")
    example, backend = replace(_USUAL, input_size=size).preprocess(held_out(batch)), backend_of(path.name)
    return repeat_file(path, vetted(path, read.data, backend, example), backend, example, threads)


def _timed(candidate: _Candidate, latency: Latency, first: Latency, batch: int) -> Timed:
    rate = 1000 * batch / latency.p50_ms
    ratio = None if latency is first else time_ratio(first.samples_ms, latency.samples_ms)
    faster = ratio.interval if ratio else None
    return Timed(candidate.name, candidate.runtime, candidate.size_bytes, latency, rate, faster)
