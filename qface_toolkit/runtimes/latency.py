"""How long one call takes, compared fairly on a machine that does other things too.

The candidates take turns, in another order each round, so that a slow moment hits all of them. What is compared is the
ratio within a round, not two averages that were taken at different times. The time that the calling thread had to wait
for a core, because another process had it, does not count where Linux tells it: beside one busy process too many, the
median of a short call never meets that wait and the median of a long one always does.
"""

import contextlib
import gc
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from qface_toolkit.errors import MeasurementError

FEWEST_ROUNDS = 3
SCHEDSTAT = "/proc/thread-self/schedstat"
"""This thread's time on a core and time waited for one, in nanoseconds, and how often it got one."""


@dataclass(frozen=True)
class Latency:
    """The time of one call in each round, in milliseconds; kept raw so that anything can be computed again.

    `among` names all that took turns, sorted: what runs in between leaves the caches as a short call finds them.
    """

    samples_ms: tuple[float, ...]
    among: tuple[str, ...] = ()

    @property
    def p50_ms(self) -> float:
        """The median, in milliseconds."""
        return float(np.percentile(self.samples_ms, 50))

    @property
    def p90_ms(self) -> float:
        """The 90th percentile, in milliseconds."""
        return float(np.percentile(self.samples_ms, 90))


def measure_latency(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 50,
    warmup: int = 5,
    seed: int = 0,
    budget_s: float | None = None,
) -> dict[str, Latency]:
    """Time every call once a round, `rounds` times, after `warmup` rounds that do not count.

    All results have the same number of samples, and samples of the same index come from the same round. With
    `budget_s` the rounds end once that many seconds are used up, but not before FEWEST_ROUNDS: the count then depends
    on the machine.

    Raises:
        MeasurementError: without calls, or with fewer than FEWEST_ROUNDS rounds.
    """
    if not calls or rounds < FEWEST_ROUNDS:
        what = f"latency needs something to call and at least {FEWEST_ROUNDS} rounds"
        raise MeasurementError(what, fix=f"give {FEWEST_ROUNDS} rounds or more")
    for _ in range(warmup):
        for call in calls.values():
            call()
    among = tuple(sorted(calls))
    return {name: Latency(tuple(samples), among) for name, samples in _samples(calls, rounds, seed, budget_s).items()}


def time_once(call: Callable[[], object]) -> float:
    """Return how many milliseconds one call took, without those that this thread had to wait for a core."""
    with _waiting() as waited:
        return _milliseconds(call, waited)


def times_faster(reference: Latency, other: Latency) -> float:
    """Return how many times as fast as `reference` the other is: the median over rounds of the ratio within a round.

    Raises:
        MeasurementError: if the two were not measured together.
    """
    if len(reference.samples_ms) != len(other.samples_ms):
        what = f"{len(reference.samples_ms)} and {len(other.samples_ms)} samples do not come from the same rounds"
        raise MeasurementError(what, fix="measure both in one call of measure_latency")
    return float(np.median(np.divide(reference.samples_ms, other.samples_ms)))


def _samples(
    calls: Mapping[str, Callable[[], object]], rounds: int, seed: int, budget_s: float | None
) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(seed).shuffle
    started = time.perf_counter()
    collecting = gc.isenabled()
    # A collection would land in one candidate's time and not in the other's.
    gc.disable()
    try:
        with _waiting() as waited:
            for done in range(rounds):
                if budget_s is not None and done >= FEWEST_ROUNDS and time.perf_counter() - started > budget_s:
                    break
                shuffle(order)
                for name in order:
                    samples[name].append(_milliseconds(calls[name], waited))
    finally:
        if collecting:
            gc.enable()
    return samples


def _milliseconds(call: Callable[[], object], waited: Callable[[], int]) -> float:
    # The clock is read first and last: a wait that falls between two readings must not be taken off what it is not in.
    before = time.perf_counter_ns()
    waited_before = waited()
    call()
    waited_ns = waited() - waited_before
    # A clock that did not move would make ratios infinite.
    return max(time.perf_counter_ns() - before - waited_ns, 1) / 1e6


@contextlib.contextmanager
def _waiting() -> Iterator[Callable[[], int]]:
    """Give what tells how many nanoseconds this thread has waited for a core so far; 0 where nobody knows."""
    try:
        descriptor = os.open(SCHEDSTAT, os.O_RDONLY)
    except OSError:
        yield lambda: 0
        return
    try:
        yield lambda: int(os.pread(descriptor, 100, 0).split()[1])
    finally:
        os.close(descriptor)
