"""Latency with a clock of our own: who is called when, what is kept, and how two are compared."""

import gc

import numpy as np
import pytest

from qface_toolkit.errors import MeasurementError
from qface_toolkit.runtimes import latency
from qface_toolkit.runtimes.latency import Latency, measure_latency, times_faster


class Clock:
    """Time that passes only when a call says so."""

    def __init__(self, monkeypatch):
        self.now_ns = 0
        self.calls = []
        monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: self.now_ns)
        monkeypatch.setattr(latency.time, "perf_counter", lambda: self.now_ns / 1e9)
        monkeypatch.setattr(latency, "SCHEDSTAT", "/nowhere")

    def call(self, name, *durations_ms):
        def run():
            done = self.calls.count(name)
            self.calls.append(name)
            self.now_ns += int(durations_ms[done % len(durations_ms)] * 1e6)

        return run


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_samples_median_and_p90(clock):
    measured = measure_latency({"float": clock.call("float", *range(1, 12))}, rounds=11, warmup=0)["float"]
    assert measured.samples_ms == tuple(range(1, 12))
    assert (measured.p50_ms, measured.p90_ms) == (6, 10)


def test_time_that_others_had_the_core_does_not_count(clock, monkeypatch, tmp_path):
    told = tmp_path / "schedstat"
    told.write_text("0 0 1\n")
    monkeypatch.setattr(latency, "SCHEDSTAT", str(told))
    work, waited_ns = clock.call("float", 5), iter((7_000_000, 7_000_000, 9_000_000))

    def call():
        work()
        told.write_text(f"{clock.now_ns} {next(waited_ns)} 2\n")
        clock.now_ns = 12_000_000 * len(clock.calls)

    measured = measure_latency({"float": call}, rounds=3, warmup=0)["float"]
    assert measured.samples_ms == (5, 12, 10)


def test_a_thread_waits_only_where_it_can_be_told(monkeypatch):
    monkeypatch.setattr(latency, "SCHEDSTAT", "/nowhere")
    with latency._waiting() as waited:
        assert waited() == 0


def test_warmup_does_not_count(clock):
    measured = measure_latency({"float": clock.call("float", 100, 100, 1, 2, 3)}, rounds=3, warmup=2)["float"]
    assert measured.samples_ms == (1, 2, 3)


def test_every_round_calls_everyone_once_in_changing_order(clock):
    calls = {name: clock.call(name, 1) for name in "abc"}
    measure_latency(calls, rounds=20, warmup=0)
    rounds = [tuple(clock.calls[start : start + 3]) for start in range(0, 60, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 2


def test_order_depends_on_the_seed_alone(clock):
    orders = []
    for seed in (1, 1, 2):
        clock.calls = []
        measure_latency({name: clock.call(name, 1) for name in "abc"}, rounds=10, warmup=0, seed=seed)
        orders.append(clock.calls)
    assert orders[0] == orders[1] != orders[2]


def test_samples_of_one_index_come_from_one_round(clock):
    slow_second_round = {"a": clock.call("a", 1, 10, 1), "b": clock.call("b", 2, 20, 2)}
    measured = measure_latency(slow_second_round, rounds=3, warmup=0)
    assert np.divide(measured["b"].samples_ms, measured["a"].samples_ms).tolist() == [2, 2, 2]


def test_budget_ends_the_rounds_but_not_before_three(clock):
    call = clock.call("a", 1000)
    assert len(measure_latency({"a": call}, rounds=50, warmup=0, budget_s=9.5)["a"].samples_ms) == 10
    assert len(measure_latency({"a": call}, rounds=50, warmup=0, budget_s=0)["a"].samples_ms) == 3


def test_a_clock_that_stands_still_gives_no_zero(clock):
    assert min(measure_latency({"a": clock.call("a", 0)}, rounds=3)["a"].samples_ms) > 0


@pytest.mark.parametrize(("calls", "rounds"), [({}, 10), ({"a": print}, 2)])
def test_too_little_to_measure(calls, rounds):
    with pytest.raises(MeasurementError, match="at least 3 rounds"):
        measure_latency(calls, rounds=rounds)


def test_garbage_collection_waits_and_comes_back(clock):
    seen = []
    measure_latency({"a": lambda: seen.append(gc.isenabled())}, rounds=3, warmup=0)
    assert seen == [False] * 3
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        measure_latency({"a": lambda: 1 / 0}, rounds=3, warmup=0)
    assert gc.isenabled()


def test_times_faster_is_the_median_ratio_within_rounds():
    reference, other = Latency((10, 30, 100)), Latency((5, 10, 100))
    assert times_faster(reference, other) == 2
    assert times_faster(other, reference) == 0.5


def test_times_faster_needs_samples_taken_together():
    with pytest.raises(MeasurementError, match="3 and 2 samples"):
        times_faster(Latency((1, 2, 3)), Latency((1, 2)))
