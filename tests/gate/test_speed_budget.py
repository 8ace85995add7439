"""The recipe's own wish for speed, held by every check."""

import pytest
from made_reports import judged, values

from qface_toolkit.gate import compare, read_budgets


def found(wanted, now=None, baseline=None):
    plain = now or values(seed=1)
    plain["recipe"]["values"]["budget"] = {"times_faster": wanted}
    verdict = compare(judged(plain), judged(baseline or values()), read_budgets())
    return [one for one in verdict.findings if one.figure == "times_faster"], verdict


@pytest.mark.parametrize(("wanted", "outcome"), [(1.2, "passed"), (1.5, "failed"), (1.35, "inconclusive")])
def test_a_speed_is_held(wanted, outcome):
    """The made files are 1.35 times as fast."""
    (finding,), verdict = found(wanted)
    assert finding.outcome == outcome, finding.said
    assert "times as fast as float.fast.onnx" in finding.said and f"wants {wanted:g}" in finding.said
    assert verdict.failed == (outcome == "failed")


def test_without_a_wish_there_is_no_finding():
    verdict = compare(judged(values(seed=1)), judged(values()), read_budgets())
    assert not [one for one in verdict.findings if one.figure == "times_faster"]


def test_too_few_rounds_say_nothing():
    (finding,), _ = found(1.2, values(seed=1, rounds=5))
    assert finding.outcome == "inconclusive"


def test_what_was_not_timed_was_not_looked_at():
    plain = values(seed=1)
    for one in plain["artifacts"]:
        if one["name"] == "int8.x86.onnx":
            one |= {"latency": None, "latency_missing": "no clock here"}
    (finding,), _ = found(1.2, plain)
    assert (finding.outcome, finding.said) == ("not looked at", "speed: no clock here")
