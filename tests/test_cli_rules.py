"""Rules that hold for every command, those to come included: the commands are walked, not listed."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from types import SimpleNamespace

import click
import numpy as np
import pytest
from helpers import SMALL, run_here
from PIL import Image
from tiers import in_tiers

from qface_toolkit import pipeline, read_report
from qface_toolkit.cli import qface as root
from qface_toolkit.gate import open_report, update_baseline


def leaves(command=root, path=()):
    """Yield every command that does something, with the words that call it."""
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            yield from leaves(one, (*path, name))
    else:
        yield " ".join(path), command


COMMANDS = dict(leaves())
SPEAKING = sorted(COMMANDS.keys() - {"completion"})
"""What `completion` prints is a program and no result."""
OF_ALL = {"--json": ("--json",), "--quiet": ("-q", "--quiet"), "--verbose": ("-v", "--verbose")}


def options(command):
    return [one for one in command.params if isinstance(one, click.Option) and not one.hidden]


@pytest.mark.parametrize("name", SPEAKING)
def test_every_command_prints_json_and_can_be_quiet_or_verbose(name):
    found = {one.opts[-1]: tuple(one.opts) for one in options(COMMANDS[name])}
    assert {key: found.get(key) for key in OF_ALL} == OF_ALL


def test_an_option_has_one_meaning_in_all_commands():
    found = {}
    for name, command in COMMANDS.items():
        for one in options(command):
            kind = one.type.to_info_dict() | {"flag": one.is_flag, "multiple": one.multiple, "words": one.nargs}
            meaning = (one.name, one.opts, kind, one.metavar if one.opts[-1] != "--set" else "KEY=VALUE")
            for spelling in one.opts:
                found.setdefault(spelling, []).append((name, meaning))
    differing = {key: several for key, several in found.items() if any(one[1] != several[0][1] for one in several)}
    assert not differing
    assert {"--out", "--model", "--threads", "-o", "-f", "-q", "-v", "-r", "-s"} <= found.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_name_in_the_help_is_that_of_one_parameter(name):
    command = COMMANDS[name]
    titles = getattr(command, "sections", {})
    known = {one.name for one in options(command)}
    told = [one for names in titles.values() for one in names]
    assert set(told) <= known
    assert len(told) == len(set(told))


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_in_the_help_are_commands(name):
    command = COMMANDS[name]
    lines = re.findall(rf"^ *qface {name} (.*)$", command.help, re.MULTILINE)
    assert lines or name == "completion"
    for line in lines:
        command.make_context(name, shlex.split(line.partition(" > ")[0])).close()


def test_no_help_imports_torch_and_each_has_its_place_and_words():
    program = """
import contextlib, io, json, sys
from qface_toolkit.cli import qface
said = {}
for words in json.loads(sys.argv[1]):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        qface.main([*words.split(), "--help"], prog_name="qface", standalone_mode=False)
    said[words] = text.getvalue()
heavy = {"torch", "onnx", "onnxruntime", "numpy", "pydantic", "rich"} & sys.modules.keys()
print(json.dumps([sorted(heavy), said]))
"""
    names = ["", "recipes", *COMMANDS]
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(names)], capture_output=True, text=True, check=True
    )
    heavy, said = json.loads(done.stdout)
    assert heavy == []
    for name, text in said.items():
        assert text.startswith("Usage: qface"), name
        assert max(map(len, text.splitlines())) <= 80, name
        assert "..." not in text.partition("Commands:")[2], name


@pytest.fixture(scope="module")
def place(finished_onnx, tmp_path_factory):
    """Return a folder with a copy of the result, its baseline, its checkpoint and crops of two people."""
    folder = tmp_path_factory.mktemp("rules")
    shutil.copytree(finished_onnx / "out", folder / "out")
    shutil.copy(finished_onnx / "tiny.pth", folder)
    update_baseline(open_report(folder / "out"), folder / "baseline.json")
    drawn = np.random.default_rng(0)
    for person in ("a", "b"):
        (folder / "people" / person).mkdir(parents=True)
        for number in range(2):
            crop = drawn.integers(0, 256, (112, 112, 3), dtype=np.uint8)
            Image.fromarray(crop).save(folder / "people" / person / f"{number}.png")
    return folder


CALLS = {
    "compress": ("tiny.pth", "-o", "new", *SMALL),
    "compress --dry-run": ("tiny.pth", "-o", "new", "--dry-run", *SMALL),
    "evaluate": ("out", "--faces", "people", "--draws", "10"),
    "benchmark": ("out", "--rounds", "10"),
    "check": ("out", "--baseline", "baseline.json", "-s", "latency_growth=null"),
    "export": ("out", "--backend", "onnx-x86", "--name", "again.onnx", "-f"),
    "inspect": ("out/int8.x86.onnx",),
    "inspect --sensitivity": ("out", "--sensitivity"),
    "verify": ("out",),
    "synth": ("noise", "--count", "2"),
    "train": (
        "mobilefacenet",
        "-t",
        "demo",
        "-d",
        "people",
        "-s",
        "width=0.125",
        "-s",
        "epochs=1",
        "-s",
        "batch_size=4",
    ),
    "list": ("sets",),
    "recipes show": ("int8",),
    "recipes show --full": ("int8", "--full"),
}
KEYS = {
    "compress": {"source", "artifacts", "environment", "sensitivity"},
    "evaluate": {"model", "reference", "figures"},
    "benchmark": {"models", "threads"},
    "check": {"outcome", "findings"},
    "export": {"artifacts"},
    "inspect": {"files"},
    "inspect --sensitivity": {"sensitivity"},
    "verify": {"trustworthy", "files"},
    "synth": {"kind", "sha256", "warnings"},
    "train": {"student", "teachers", "epochs"},
    "list": {"sets"},
    "recipes show": {"version", "steps"},
    "recipes show --full": {"version", "steps", "target"},
}
AT_ONCE = {"check", "compress --dry-run", "list", "recipes show", "recipes show --full"}
"""These have no work that anybody would wait for."""


@pytest.fixture
def call(place, monkeypatch, capsys, tmp_path):
    """Give a function that runs one of CALLS with more options, in the folder of the result."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(pipeline._sensitivity, "IMAGES", 4)

    def run_job(job, out, *, force, resume, tell):
        tell("1. calibrate")(1, 1)
        return read_report(place / "out" / "report.json")

    monkeypatch.setattr(pipeline, "run_job", run_job)

    def run(name, *more):
        words = name.partition(" --")[0]
        out = ("--out", tmp_path / f"set{len(list(tmp_path.iterdir()))}") if words in ("synth", "train") else ()
        return SimpleNamespace(
            **dict(
                zip(
                    ("code", "out", "err"),
                    run_here(monkeypatch, capsys, *words.split(), *CALLS[name], *out, *more),
                    strict=True,
                )
            )
        )

    return run


def test_every_command_is_called():
    assert {name.partition(" --")[0] for name in CALLS} == set(SPEAKING)


LONG = {"compress", "inspect --sensitivity", "train"}
"""Calls that compute for half a second."""


@pytest.mark.parametrize("name", in_tiers(CALLS, fast=CALLS.keys() - {"inspect --sensitivity"}))
def test_json_is_one_object_and_nothing_else(name, call):
    done = call(name, "--json", "-q")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out).keys() >= KEYS.get(name, {"model", "artifacts"})


@pytest.mark.parametrize("name", in_tiers(CALLS, fast=CALLS.keys() - LONG))
def test_progress_goes_to_stderr_and_quiet_silences_it(name, call):
    told, quiet = call(name), call(name, "-q")
    assert (told.code, quiet.code, quiet.err) == (0, 0, "")
    assert (told.err == "") == (name in AT_ONCE)


def test_nothing_is_quiet_about_an_error(call):
    done = call("inspect", "-q", "--sensitivity")
    assert (done.code, done.out, "error: " in done.err) == (1, "", True)


def test_the_command_in_the_report_tells_the_threads(place, monkeypatch, capsys):
    """Another machine has another number of cores, and would make other bytes."""
    monkeypatch.chdir(place)
    jobs = []
    monkeypatch.setattr(pipeline, "run_job", lambda job, *_, **__: jobs.append(job) or read_report("out/report.json"))
    monkeypatch.setattr(pipeline._planning, "usable_cores", lambda: 3)
    run_here(monkeypatch, capsys, "compress", "tiny.pth", "-o", "new", "-q")
    run_here(monkeypatch, capsys, "compress", "tiny.pth", "-o", "new", "--threads", "2")
    default, two = jobs
    assert default.command == "qface compress --threads 3 tiny.pth -o new -q"
    assert two.command == "qface compress tiny.pth -o new --threads 2"
    assert (default.threads, two.threads) == (3, 2)
    assert default.fingerprint != two.fingerprint


def test_threads_are_recorded(place):
    manifest = json.loads((place / "out" / "manifest.json").read_text())
    assert manifest["threads"] == read_report(place / "out" / "report.json").environment.threads == 1
