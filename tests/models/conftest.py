"""What all tests of this folder share."""

import onnx_files
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_make_collect_report():
    """Let the tables of a test file be drawn from the same seed whichever files were collected before it."""
    onnx_files.draw_anew()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Let a test draw the same weights whichever tests ran before it."""
    onnx_files.draw_anew()
