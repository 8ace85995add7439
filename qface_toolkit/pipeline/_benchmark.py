"""Time models beside each other, in turns: checkpoints, ONNX files, archives and whole results.

Images are prepared before, so that only the networks are timed.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from qface_toolkit.backends import BACKENDS, ImageInput, Runner, SeveralOutputs, foreign, runner_of
from qface_toolkit.environment import Environment, record_environment
from qface_toolkit.errors import MeasurementError
from qface_toolkit.evidence.speed import frozen
from qface_toolkit.models import ModelSpec, load_model
from qface_toolkit.result.golden import held_out
from qface_toolkit.result.job import Tell, silent
from qface_toolkit.result.opening import Wanted, read_facts, result_files
from qface_toolkit.runtimes import FAST_ARTIFACT, FLOAT_ARTIFACT
from qface_toolkit.runtimes.latency import Latency, measure_latency
from qface_toolkit.runtimes.time_ratio import Interval, time_ratio

Inputs = npt.NDArray[np.float32]


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
    sets: Sequence[str] = (),
    tell: Tell = silent,
) -> Benchmark:
    """Time models in turns on batches of drawings; a result's folder stands for its float files and this machine's.

    `threads` are those of each runtime, `batch` is the number of images in a call, `rounds` how often each model is
    called, and `name` the architecture of checkpoints, instead of recognising it. `sets` are KEY=VALUE strings of the
    models' facts, such as the size of images that a file leaves open.

    Raises:
        QFaceError: whatever the user can mend.
    """
    facts = read_facts(sets)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        candidates = [_opened(path, label, threads, batch, Wanted(facts, name)) for path, label in _files(models)]
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


def _opened(model: str | Path, label: str, threads: int, batch: int, wanted: Wanted) -> _Candidate:
    path = Path(model)
    size = path.stat().st_size if path.is_file() else None
    runner = runner_of(path)
    if runner is not None:
        version, call = _of_file(path, runner, threads, batch, wanted)
        return _Candidate(label, version, size, call)
    float_model = load_model(model, name=wanted.name, overrides=wanted.facts)
    example = float_model.spec.preprocess(held_out(batch, float_model.spec.frame))
    return _Candidate(label, f"torch {torch.__version__}", size, partial(frozen(float_model, example), example))


def _of_file(path: Path, runner: Runner, threads: int, batch: int, wanted: Wanted) -> tuple[str, Callable[[], object]]:
    """Return what runs a file of anybody's, and a call of it; how images are prepared decides no speed."""
    content = runner.fitted(path, runner.read(path), wanted.facts)
    takes = runner.image_input(path, content)
    if takes.batch not in (None, batch):
        what = f"the file is made for {takes.batch} images at a time, not for {batch}"
        raise MeasurementError(what, where=str(path), fix=f"time it with --batch {takes.batch}")
    example = _usual(takes).preprocess(held_out(batch))
    with contextlib.suppress(SeveralOutputs):  # whichever the embedding is, all of them are timed
        runner.try_out(path, example, content)
    return runner.version(content), runner.repeat(path, example, threads, content)


def _usual(takes: ImageInput) -> ModelSpec:
    """Return facts that suit a file's input."""
    spec = ModelSpec("model", takes.size, 1)
    return spec.override({"color": "gray"}) if takes.channels == 1 else spec


def _timed(candidate: _Candidate, latency: Latency, first: Latency, batch: int) -> Timed:
    rate = 1000 * batch / latency.p50_ms
    ratio = None if latency is first else time_ratio(first.samples_ms, latency.samples_ms)
    faster = ratio.interval if ratio else None
    return Timed(candidate.name, candidate.runtime, candidate.size_bytes, latency, rate, faster)
