"""Verification on files, from embeddings known beforehand."""

import numpy as np
import pytest

from qface_toolkit.scoring.verdicts import FileVerdict, Verification, judge_file


def at_angles(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


FLOAT, EXPECTED = at_angles(0, 0), at_angles(10, 10)


@pytest.mark.parametrize(
    ("degrees", "verdict", "said"),
    [(10, "exact", None), (11, "agrees", None), (5, "differs", "as close to the float"), (20, "differs", "further")],
)
def test_a_file_is_judged_by_what_was_expected_of_it(degrees, verdict, said):
    found = judge_file("file", EXPECTED, FLOAT, at_angles(10, degrees))
    assert (found.verdict, found.ran) == (verdict, True)
    assert found.reason is None if said is None else said in found.reason
    assert found.cosine_min == pytest.approx(np.cos(np.radians(degrees - 10)))
    assert found.float_cosine_mean == pytest.approx(np.cos(np.radians([10, degrees])).mean())


@pytest.mark.parametrize(("degrees", "verdict"), [(5, "agrees"), (-10, "agrees"), (20, "differs")])
def test_a_runtime_that_nobody_follows_must_be_as_close_to_float_as_promised(degrees, verdict):
    found = judge_file("file", EXPECTED, FLOAT, at_angles(10, degrees), followed=False)
    assert (found.verdict, found.reason is None) == (verdict, verdict == "agrees")


@pytest.mark.parametrize("got", [at_angles(10, 10)[:1], at_angles(10, 10) * np.nan, np.zeros((2, 2))])
def test_embeddings_that_cannot_be_compared_differ(got):
    found = judge_file("file", EXPECTED, FLOAT, got)
    assert (found.verdict, found.cosine_min) == ("differs", None)
    assert found.reason


@pytest.mark.parametrize(
    ("verdicts", "trustworthy"),
    [
        (("exact", "agrees"), True),
        (("exact", "cannot run", "unknown"), True),
        (("exact", "differs"), False),
        (("exact", "damaged"), False),
        (("cannot run",), False),
        ((), False),
    ],
)
def test_a_result_is_trustworthy_if_all_that_runs_agrees(verdicts, trustworthy):
    files = tuple(FileVerdict(str(place), verdict) for place, verdict in enumerate(verdicts))
    assert Verification(files, 8).trustworthy == trustworthy
