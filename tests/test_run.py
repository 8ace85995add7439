"""The test run itself: its budget of processor time, and folders that all of its workers share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_once import MadeOnce
from tiers import in_tiers

BURN = "import time\nwhile time.process_time() < 0.3: pass\n"
WORK = f"""
import os, pathlib, subprocess, sys

def test_work():
    subprocess.run([sys.executable, "-c", {BURN!r}], check=True)
    pathlib.Path("spent").write_text(str(sum(os.times()[:4])))
"""


@pytest.mark.parametrize(("budget", "code"), in_tiers([(60, 0), (0.2, 1)], fast=[(0.2, 1)]))
def test_a_run_over_its_budget_fails_whichever_process_spent_it(budget, code, tmp_path):
    (tmp_path / "test_work.py").write_text(WORK)
    options = ("-q", "-p", "xdist", "-n", "1", "-p", "cpu_budget", f"--cpu-budget={budget}", f"--rootdir={tmp_path}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tmp_path / "test_work.py"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert ("raise the budget" in done.stdout) == bool(code)
    (told,) = [line.split() for line in done.stdout.splitlines() if "seconds of processor time" in line]
    assert float(told[0]) > float((tmp_path / "spent").read_text()) > 0.3, "the worker and its child are counted"


def test_a_shared_folder_is_made_once_and_watched(tmp_path):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "file").write_text("as made")

    first, second = MadeOnce(tmp_path), MadeOnce(tmp_path)
    assert first.folder("one", make) == second.folder("one", make) == tmp_path / "one"
    assert made == [tmp_path / "one"]
    second.check()
    (tmp_path / "one" / "more").write_text("")
    with pytest.raises(pytest.fail.Exception, match="a test wrote into the shared folder 'one'"):
        first.check()


def test_a_folder_that_could_not_be_made_is_made_anew(tmp_path):
    def fail(folder):
        (folder / "half").write_text("")
        raise ValueError

    folders = MadeOnce(tmp_path)
    with pytest.raises(ValueError):
        folders.folder("one", fail)
    assert list(folders.folder("one", lambda folder: None).iterdir()) == []
