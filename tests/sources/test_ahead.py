"""Pictures that are drawn ahead are those that would be drawn here, whatever becomes of the other process."""

import subprocess
import sys

import numpy as np
import pytest

from qface_toolkit.sources import _ahead
from qface_toolkit.sources._ahead import DrawnAhead, draw
from qface_toolkit.sources._sets import find_set

NAME, COUNT = "drawings-heldout", 3


@pytest.fixture
def drawn_here(monkeypatch):
    """Return the counts that were drawn in this process."""
    counts = []
    monkeypatch.setattr(_ahead, "draw", lambda name, count, frame: counts.append(count) or draw(name, count, frame))
    return counts


@pytest.mark.parametrize("apart", [True, False])
def test_they_are_the_same_pictures(apart, drawn_here):
    images = find_set(NAME).open(count=COUNT)
    with DrawnAhead(NAME, COUNT, apart=apart) as ahead:
        found = ahead.crops()
    assert np.array_equal(found, np.stack([images.crop(index) for index in range(COUNT)]))
    assert drawn_here == ([] if apart else [COUNT])


@pytest.mark.parametrize("program", ["raise SystemExit(1)", "print('half of it')", "import os; os.abort()"])
def test_a_process_that_fails_is_done_without(program, drawn_here, monkeypatch):
    monkeypatch.setattr(_ahead, "PROGRAM", program)
    with DrawnAhead(NAME, COUNT, apart=True) as ahead:
        assert len(ahead.crops()) == COUNT
    assert drawn_here == [COUNT]


def test_without_a_second_process_they_are_drawn_here(drawn_here, monkeypatch):
    monkeypatch.setattr(sys, "executable", "no python")
    with DrawnAhead(NAME, COUNT, apart=True) as ahead:
        assert len(ahead.crops()) == COUNT
    assert drawn_here == [COUNT]


def test_an_error_leaves_no_process_behind(monkeypatch):
    monkeypatch.setattr(_ahead, "PROGRAM", "import time; time.sleep(600)")
    started, popen = [], subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *given, **named: started.append(popen(*given, **named)) or started[-1]
    )
    with pytest.raises(ValueError, match="stop"), DrawnAhead(NAME, COUNT, apart=True):
        raise ValueError("stop")
    assert started[0].poll() is not None


def test_the_process_imports_no_torch():
    told = "import sys, qface_toolkit.sources._ahead; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0
