"""Which cases of a test run always, and which with the slow tests."""

import pytest


def in_tiers(cases, *, fast):
    """Return a test's cases, tuples where they are several arguments; all but those in `fast` are marked slow."""
    return _marked([(case, case, None) for case in cases], fast)


def named_in_tiers(cases, *, fast):
    """Return the values of a dict as a test's cases; all but those whose names are in `fast` are marked slow."""
    return _marked([(name, case, name) for name, case in cases.items()], fast)


def _marked(cases, fast):
    told = [key for key, _, _ in cases]
    assert all(one in told for one in fast), f"{[one for one in fast if one not in told]} are none of the cases"
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)), id=name, marks=() if key in fast else pytest.mark.slow
        )
        for key, case, name in cases
    ]
