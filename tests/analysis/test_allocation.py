"""The knapsack's answers are those of trying everything, and its bound never lies above the optimum."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qface_toolkit.analysis import allocation
from qface_toolkit.analysis.allocation import Choice, OutOfReach, fewest_bytes, least_loss

SIZES = st.integers(1, 60)
LOSSES = st.floats(0, 1, allow_subnormal=False).map(lambda loss: round(loss, 4))
LAYER = st.lists(st.tuples(SIZES, LOSSES), min_size=1, max_size=4).map(
    lambda pairs: [Choice(bits + 2, size, loss) for bits, (size, loss) in enumerate(pairs)]
)
LAYERS = st.lists(LAYER, min_size=1, max_size=5)


def everything(layers):
    for chosen in itertools.product(*layers):
        yield sum(one.size_bytes for one in chosen), math.fsum(one.loss for one in chosen)


def like_a_network(count, weights, seed=0):
    """Layers whose losses fall fourfold with each bit, as those of rounding do, of very different sizes."""
    draw = np.random.default_rng(seed)
    sizes = draw.lognormal(0, 2, count)
    sizes = (sizes / sizes.sum() * weights).astype(int) + 64
    scales = draw.lognormal(-6, 2, count)
    return [
        [Choice(bits, int(size * bits) // 8, scale * 4.0**-bits * draw.uniform(0.7, 1.4)) for bits in range(2, 9)]
        for size, scale in zip(sizes, scales, strict=True)
    ]


@settings(max_examples=300, deadline=None)
@given(LAYERS, st.integers(1, 300))
def test_the_least_loss_is_that_of_trying_everything(layers, limit):
    fitting = [(loss, size) for size, loss in everything(layers) if size <= limit]
    if not fitting:
        with pytest.raises(OutOfReach) as raised:
            least_loss(layers, limit)
        smallest = min(everything(layers))
        assert (raised.value.closest.size_bytes, raised.value.closest.loss) == pytest.approx(smallest)
        return
    found = least_loss(layers, limit)
    assert found.size_bytes <= limit
    assert found.loss == pytest.approx(min(fitting)[0], abs=1e-9)
    assert found.bound <= min(fitting)[0] + 1e-9
    assert found.size_bytes == min(size for loss, size in fitting if loss <= found.loss + 1e-9)
    assert all(choice in choices for choice, choices in zip(found.choices, layers, strict=True))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(LAYERS, st.floats(0, 3))
def test_the_fewest_bytes_are_those_of_trying_everything(layers, limit):
    fitting = [size for size, loss in everything(layers) if loss <= limit]
    if not fitting:
        with pytest.raises(OutOfReach):
            fewest_bytes(layers, limit * (1 - 1e-6))
        return
    found = fewest_bytes(layers, limit)
    assert found.loss <= limit * (1 + 1e-9)
    assert found.bound <= min(fitting) + 1e-6
    near = [size for size, loss in everything(layers) if loss <= limit * (1 - 2 * len(layers) / allocation.UNITS)]
    assert min(fitting) <= found.size_bytes <= min(near, default=math.inf)


def test_sizes_that_are_rounded_up_to_units_fit_and_come_close(monkeypatch):
    layers = like_a_network(30, 40_000)
    exact = least_loss(layers, 20_000)
    monkeypatch.setattr(allocation, "UNITS", 500)
    coarse = least_loss(layers, 20_000)
    assert coarse.size_bytes <= 20_000
    assert exact.bound <= exact.loss <= coarse.loss <= exact.loss * 1.1
    assert coarse.bound == pytest.approx(exact.bound)


def test_a_large_network_takes_about_a_second_and_the_gap_is_small():
    layers = like_a_network(110, 65_000_000)
    began = time.process_time()
    found = least_loss(layers, 32_000_000)
    assert time.process_time() - began < 3
    assert 0 <= found.loss - found.bound < 0.005 * found.loss
    assert 31_900_000 < found.size_bytes <= 32_000_000
    other = fewest_bytes(layers, found.loss)
    assert other.bound <= other.size_bytes <= 32_000_000 * 1.001
    assert 0 <= other.size_bytes - other.bound < 0.005 * other.size_bytes


def test_more_bytes_never_lose_more():
    layers = like_a_network(12, 2000)
    losses = [least_loss(layers, limit).loss for limit in range(800, 2000, 40)]
    assert losses == sorted(losses, reverse=True)


def test_everything_fits():
    layers = like_a_network(5, 1000)
    found = least_loss(layers, 10**9)
    assert [choice.bits for choice in found.choices] == [min(layer, key=lambda one: one.loss).bits for layer in layers]
    assert found.loss == found.bound


def test_equal_losses_go_to_fewer_bytes():
    layers = [[Choice(2, 10, 0.5), Choice(3, 15, 0.5), Choice(4, 20, 0.25), Choice(5, 25, 0.3)]]
    assert [least_loss(layers, limit).choices[0].bits for limit in (10, 19, 20, 99)] == [2, 2, 4, 4]


def test_the_same_problem_has_the_same_answer():
    same = [[Choice(2, 10, 0.5), Choice(4, 20, 0.25)]] * 4
    assert [choice.bits for choice in least_loss(same, 60).choices] == [
        choice.bits for choice in least_loss(list(same), 60).choices
    ]
    assert sum(choice.bits == 4 for choice in least_loss(same, 60).choices) == 2


def test_out_of_reach_says_what_is_closest():
    layers = like_a_network(6, 1000)
    smallest = sum(layer[0].size_bytes for layer in layers)
    with pytest.raises(OutOfReach, match=str(smallest)):
        least_loss(layers, smallest - 1)
    assert least_loss(layers, smallest).size_bytes == smallest
    with pytest.raises(OutOfReach) as raised:
        fewest_bytes(layers, 0.0)
    assert raised.value.closest.loss == pytest.approx(math.fsum(min(one.loss for one in layer) for layer in layers))


def test_losses_just_below_zero_are_within_reach():
    layers = [[Choice(2, 10, 0.1), Choice(8, 40, -3e-16)], [Choice(8, 20, -1e-16)]]
    assert fewest_bytes(layers, math.fsum((-3e-16, -1e-16))).size_bytes == 60
