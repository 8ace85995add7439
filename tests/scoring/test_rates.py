"""Names and ranks of false accept rates."""

import pytest

from qface_toolkit.scoring.rates import far_key, rank_of, ranks_of, supported


@pytest.mark.parametrize(("far", "key"), [(0.001, "1e-3"), (1e-4, "1e-4"), (0.025, "2.5e-2"), (0.1, "1e-1")])
def test_keys_are_those_of_reports(far, key):
    assert far_key(far) == key


@pytest.mark.parametrize("impostors", [1000, 3000, 7000, 29000])
def test_rank_is_not_lost_to_rounding(impostors):
    assert rank_of(1e-3, impostors) == impostors // 1000
    assert rank_of(1e-3, impostors - 1) == impostors // 1000 - 1
    assert ranks_of(1e-3, [impostors, impostors - 1]).tolist() == [impostors // 1000, impostors // 1000 - 1]


def test_rates_are_supported_from_one_impostor_on():
    assert supported((1e-2, 1e-3, 1e-4), 1000) == (1e-2, 1e-3)
    assert supported((1e-3,), 999) == ()
