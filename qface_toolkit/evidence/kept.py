"""What the layers cost that a model keeps in float: a table of each point on the way to them."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qface_toolkit.backends import BACKENDS, Backend, Embed
from qface_toolkit.canonical.graph import operation
from qface_toolkit.methods import wanted_of
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.report.schema import BudgetBlock, ParetoPoint
from qface_toolkit.result.job import Job
from qface_toolkit.result.made import Made
from qface_toolkit.runtimes.latency import Latency, measure_latency, times_faster
from qface_toolkit.scoring.agreement import measure_agreement

Floats = npt.NDArray[np.float32]
ROUNDS, BUDGET_S = 60, 30.0


@dataclass(frozen=True)
class Bench:
    """What points are measured with: preprocessed images as `embedded` feeds them, and the float model's embeddings.

    `timed` is False where this machine's times would say nothing; `threads` are those of everything that is not timed.
    """

    embedded: Callable[[Embed], Floats]
    expected: Floats
    example: Floats
    timed: bool
    threads: int


def budget_block(job: Job, made: Made, bench: Bench) -> BudgetBlock | None:
    """Return what the layers that a model keeps in float cost, or None if the recipe did not ask for any.

    Files with fewer of them are written for a while, run and timed in turns.
    """
    wanted = wanted_of(job.steps, "kept", "cosine_mean")
    if wanted is None and made.kept:
        wanted = wanted_of(job.steps, "mended", "cosine_mean")
    if wanted is None:
        return None
    counts = pareto_counts(len(made.kept))
    first, *_ = job.recipe.backends
    backend = BACKENDS.get(first)
    with tempfile.TemporaryDirectory() as folder:
        files = {count: Path(folder) / f"{count}{Path(backend.artifact).suffix}" for count in counts}
        for count, file in files.items():
            file.write_bytes(b"".join(written() for _, written in made.keeping(count).artifacts([first])))
        latencies = _latencies(backend, files.values(), bench) if bench.timed else {}
        points = [_point(count, file, backend, bench, latencies) for count, file in files.items()]
    return BudgetBlock(
        cosine_mean_wanted=wanted,
        artifact=backend.artifact,
        layers=sum(operation(node) in LAYERS for node in job.canonical.graph.nodes),
        kept=made.kept,
        images=len(bench.expected),
        points=tuple(points),
    )


def pareto_counts(kept: int) -> Sequence[int]:
    """Return how many layers the points keep: none, a power of two, all."""
    return sorted({0, kept, *(2**power for power in range(kept.bit_length()) if 2**power < kept)})


def _latencies(backend: Backend, files: Iterable[Path], bench: Bench) -> dict[str, Latency]:
    calls = {file.name: backend.repeat(file, bench.example, threads=1) for file in files}
    return measure_latency(calls, rounds=ROUNDS, budget_s=BUDGET_S)


def _times(latencies: dict[str, Latency], name: str) -> dict[str, float]:
    """Return a point's latency, and how many times as fast it is as the first one."""
    if not latencies:
        return {}
    first = next(iter(latencies.values()))
    return {"p50_ms": latencies[name].p50_ms, "times_faster": times_faster(first, latencies[name])}


def _point(count: int, file: Path, backend: Backend, bench: Bench, latencies: dict[str, Latency]) -> ParetoPoint:
    found = measure_agreement(bench.expected, bench.embedded(backend.open(file, bench.threads)))
    return ParetoPoint(
        layers=count,
        size_bytes=file.stat().st_size,
        **_times(latencies, file.name),
        cosine_mean=found.cosine_mean,
        cosine_min=found.cosine_min,
    )
