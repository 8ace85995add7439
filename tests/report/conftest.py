"""One whole report as plain values, to be changed by the tests."""

import copy

import pytest
from report_values import VALUES

from qface_toolkit.report.schema import Report


@pytest.fixture
def values():
    return copy.deepcopy(VALUES)


@pytest.fixture
def make():
    """Return a function that makes a report from plain values."""
    return Report.model_validate


@pytest.fixture
def report(values, make):
    return make(values)
