"""The statistics of a latency: a busy machine is not a slower model, and a slower model is found beside a busy one."""

import numpy as np
import pytest
from made_reports import judged, times, values

from qface_toolkit.gate import compare, read_budgets
from qface_toolkit.runtimes.time_ratio import FEWEST_ROUNDS, growth, time_ratio

RUNS = 50


def ratio(seed, **how):
    _, fast, int8 = times(seed, **how)
    return time_ratio(int8["samples_ms"], fast["samples_ms"])


def test_ratio_of_equal_times_is_known_exactly():
    found = time_ratio([2.0] * 20, [4.0] * 20).interval
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize(("mine", "other"), [(FEWEST_ROUNDS - 1, FEWEST_ROUNDS - 1), (20, 21), (0, 0)])
def test_too_few_rounds_or_other_ones_have_no_ratio(mine, other):
    assert time_ratio([1.0] * mine, [1.0] * other) is None


@pytest.mark.slow
def test_interval_holds_the_true_ratio_nearly_always():
    found = [ratio(seed, rounds=160).interval for seed in range(200)]
    missed = sum(not one.low <= 2.0 / 2.7 <= one.high for one in found)
    assert missed <= 8, missed


def test_more_rounds_make_it_narrower():
    assert ratio(0, rounds=1600).half_width < 0.5 * ratio(0, rounds=100).half_width


def test_disturbances_that_last_for_rounds_widen_the_interval():
    steady = np.exp(0.05 * np.random.default_rng(0).standard_normal(200))
    drifting = np.exp(0.05 * np.repeat(np.random.default_rng(0).standard_normal(20), 10))
    one, other = (time_ratio(list(samples), [1.0] * 200).half_width for samples in (steady, drifting))
    assert other > 1.5 * one, (one, other)


def test_growth_of_a_run_against_itself_is_none_but_not_known_exactly():
    found = growth(ratio(0), ratio(0))
    assert found.value == 0
    assert found.low < 0 < found.high


def outcomes(slower, **how):
    budgets = read_budgets()
    baseline = judged(values(seed=999, **how))
    found = []
    for seed in range(RUNS):
        verdict = compare(judged(values(seed=seed, slower=slower, **how)), baseline, budgets)
        found += [one.outcome for one in verdict.findings if one.figure == "latency_ratio"]
    return found


def test_no_false_alarm():
    found = outcomes(1.0)
    assert (found.count("failed"), found.count("inconclusive") <= RUNS // 10) == (0, True), found


def test_every_true_alarm():
    assert outcomes(1.15).count("failed") == RUNS


def test_what_cannot_be_told_is_not_called_a_failure():
    found = outcomes(1.0, noise=0.6)
    assert found.count("failed") == 0
    assert found.count("inconclusive") > RUNS // 2
