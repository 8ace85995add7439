"""The command line is pleasant: it explains itself, suggests, completes, and is plain where nobody watches."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import SMALL, measure_quickly, run_apart, run_here
from tiers import in_tiers

from qface_toolkit.cli import qface as root

COMMANDS = [name for name, command in root.commands.items() if any(one.required for one in command.params)]
ESCAPE = "\x1b"


@pytest.fixture
def qface(monkeypatch, capsys):
    return lambda *args: run_here(monkeypatch, capsys, *args)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_arguments_explains_itself_with_an_example(command, qface):
    code, out, err = qface(command)
    assert code == 2
    assert re.search(rf"^  .*qface {command}\b", out + err, re.MULTILINE)


@pytest.mark.parametrize(("typed", "meant"), [("compres", "compress"), ("evalute", "evaluate"), ("verfy", "verify")])
def test_a_mistyped_command_is_suggested(typed, meant, qface):
    code, _, err = qface(typed)
    assert (code, f"Did you mean '{meant}'?" in err) == (2, True)


def test_a_mistyped_option_is_suggested(qface):
    said = " ".join(qface("compress", "demo", "--recpie", "int8")[2].split())
    assert "--recipe" in said.partition("Did you mean")[2]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete(shell, qface):
    code, out, _ = qface("completion", shell)
    assert (code, "_QFACE_COMPLETE" in out) == (0, True)


def test_names_of_commands_are_completed():
    asked = {"_QFACE_COMPLETE": "bash_complete", "COMP_WORDS": "qface ev", "COMP_CWORD": "1"}
    program = "from qface_toolkit.cli import qface; qface.main(prog_name='qface')"
    found = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert found.stdout.split() == ["plain,evaluate"]


@pytest.mark.slow
def test_verbose_says_how_long_each_step_took_and_the_end_where_to_begin(qface, checkpoint, tmp_path, monkeypatch):
    measure_quickly(monkeypatch)
    args = ("compress", checkpoint, "--out", tmp_path / "out", *SMALL, "--backend", "onnx-x86", "--verbose")
    code, out, err = qface(*args)
    assert code == 0
    steps = [line for line in err.splitlines() if not line.startswith("  ")]
    assert "1. equalize" in steps
    assert len(re.findall(r"^  took \d+\.\d s$", err, re.MULTILINE)) == len(steps)
    assert "took" not in out
    told = out.splitlines()[-1]
    assert Path(told.rpartition("start with ")[2]).is_file()


@pytest.mark.parametrize("env", in_tiers(({}, {"NO_COLOR": "1", "FORCE_COLOR": ""}), fast=[{}]))
def test_a_pipe_gets_no_escape_codes(finished_onnx, env):
    code, out, err = run_apart("inspect", finished_onnx / "out", env=os.environ | env)
    assert code == 0
    assert ESCAPE not in out + err
