"""Agreement of members, tensors and codes, on numbers known beforehand."""

import math

import numpy as np
import pytest

from qface_toolkit.scoring.parity import (
    CodeDifference,
    compare_codes,
    compare_members,
    compare_tensors,
)


def at_angles(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_every_pair_is_compared_once():
    pairs = compare_members({"a": at_angles(0, 0), "b": at_angles(0, 60), "c": at_angles(0, 60)})
    assert [(pair.first, pair.second, pair.exact) for pair in pairs] == [
        ("a", "b", False),
        ("a", "c", False),
        ("b", "c", True),
    ]
    assert (pairs[0].cosine_mean, pairs[0].cosine_min) == (pytest.approx(0.75), pytest.approx(0.5))


def test_batches_of_a_tensor_are_one_tensor():
    reference, other = np.float32([3, 4, 0, 12]), np.float32([3, 0, 4, 12])
    batches = [("a", reference[:2], other[:2]), ("b", reference, reference), ("a", reference[2:], other[2:])]
    first, second = compare_tensors(batches, {})
    assert (first.tensor, second.tensor) == ("a", "b")
    assert first.cosine == pytest.approx((9 + 144) / 169)
    assert first.snr_db == pytest.approx(10 * math.log10(169 / 32))
    assert (second.cosine, second.snr_db) == (pytest.approx(1), None)


def test_drop_is_taken_from_the_worst_of_the_sources():
    def at(degrees):
        return np.float32([1, 0]), np.float32([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])

    batches = [("a", *at(30)), ("b", *at(60)), ("sum", *at(70)), ("better", *at(10))]
    found = compare_tensors(batches, {"sum": ("a", "b"), "better": ("sum", "unknown")})
    drops = {one.tensor: one.drop for one in found}
    cosine = {degrees: math.cos(math.radians(degrees)) for degrees in (30, 60, 70)}
    assert drops["a"] == pytest.approx(1 - cosine[30], abs=1e-6)
    assert drops["sum"] == pytest.approx(cosine[60] - cosine[70], abs=1e-6)
    assert drops["better"] == 0


@pytest.mark.parametrize(("other", "cosine"), [(0.0, 1.0), (1.0, 0.0)])
def test_a_tensor_of_zeros(other, cosine):
    [found] = compare_tensors([("zeros", np.zeros(3), np.full(3, other))], {})
    assert (found.cosine, found.snr_db) == (cosine, None)


def test_codes_that_differ_are_counted():
    expected = {"a": np.uint8([0, 255, 7, 7]), "b": np.uint8([1]), "not read": np.uint8([1])}
    got = {"b": np.uint8([1]), "a": np.uint8([255, 255, 9, 7])}
    assert compare_codes(expected, got) == (CodeDifference("a", 4, 2, 255), CodeDifference("b", 1, 0, 0))


def test_codes_of_another_shape_all_differ():
    [found] = compare_codes({"a": np.zeros((2, 3), np.uint8)}, {"a": np.zeros((3, 2), np.uint8)})
    assert (found.codes, found.differing) == (6, 6)
