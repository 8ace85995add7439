"""Every command on every kind of damaged or wrong input: exit code 1 and one message, or what the table says it does.

The table has a row for each command and a column for each file of `damaged_files`. A cell is what ends in a message
unless RUNS names it. Files that a command is likely to be handed are tried always, the rest in the slow tier.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from damaged_files import write_all
from PIL import Image
from tiers import in_tiers

from qface_toolkit import cli
from qface_toolkit.evaluation.synthetic import synthetic_people

MESSAGE = re.compile(
    r"error: (?:[^\n]*\S\n(?:  (?!where: |to do: )[^\n]+\n)*  where: [^\n]*\S|there is no [^\n]+ called '[^\n]+)\n"
    r"  to do: [^\n]*\S\n"
)
"""One message: what, a line for each mistake of several, where (a name that nothing has is its own), and what to do."""
LONGEST_S = 20
NETWORK = (".onnx", ".pth", ".ts", ".safetensors")

COMMANDS = {
    "compress X": (NETWORK, "compress X --out OUT --recipe int8-fast"),
    "compress --recipe X": ((".yaml",), "compress GOOD --out OUT --recipe X"),
    "compress --set X": ((".yaml",), "compress GOOD --out OUT --set calibration.set=X"),
    "compress --out X": ((".json",), "compress GOOD --out X --recipe int8-fast"),
    "evaluate X": (NETWORK, "evaluate X --faces FACES/people --draws 10 -q"),
    "evaluate --reference X": ((".onnx", ".pth"), "evaluate GOOD --reference X --faces FACES/people --draws 10 -q"),
    "evaluate --pairs X": ((".bin",), "evaluate GOOD --pairs X -q"),
    "evaluate --faces X": ((".csv",), "evaluate GOOD --faces X -q"),
    "evaluate --ijb X": ((".csv",), "evaluate GOOD --ijb X -q"),
    "evaluate --suite X": ((".csv",), "evaluate GOOD --suite quantface X -q"),
    "evaluate --groups X": ((".csv",), "evaluate GOOD --faces FACES/people --groups X -q"),
    "evaluate --cache X": ((".bin",), "evaluate GOOD --faces FACES/people --cache X/Y -q"),
    "evaluate --out X": ((".json",), "evaluate GOOD --faces FACES/people --out X/Y -q"),
    "benchmark X": (NETWORK, "benchmark X --rounds 10 -q"),
    "inspect X": ((".onnx", ".ts"), "inspect X -q"),
    "inspect X --sensitivity": ((".json",), "inspect X --sensitivity -q"),
    "export X": ((".json", ".onnx"), "export X --backend onnx-x86 -q"),
    "verify X": ((".json", ".onnx"), "verify X -q"),
    "check X": ((".json",), "check X --baseline RESULT -q"),
    "check --baseline X": ((".json",), "check RESULT --baseline X"),
    "check --budgets X": ((".yaml",), "check RESULT --baseline RESULT --budgets X"),
    "check --junit X": ((".bin",), "check RESULT --baseline RESULT --junit X/Y"),
    "synth X": ((".yaml",), "synth X --out OUT -q"),
    "synth --for X": ((".onnx", ".pth"), "synth matched --count 2 --for X --out OUT -q"),
    "synth --out X": ((".csv",), "synth drawings --count 1 --out X/Y -q"),
    "recipes show X": ((".yaml",), "recipes show X"),
    "recipes show X --full": ((".yaml",), "recipes show X --full"),
}
"""Row -> the endings of what the command is likely to be handed, and its arguments."""

WHOLE = (
    "detector.onnx",
    "age.onnx",
    "age-and-sex.onnx",
    "quantized-elsewhere.onnx",
    "int8.x86.onnx",
    "larger-input.onnx",
)
TEXT = ("fourteen-bytes.yaml", "letter.yaml", "noise.yaml", "empty.yaml", "page.yaml", "pointer.yaml")
RUNS = {
    "inspect X": {*WHOLE},
    "benchmark X": {*WHOLE},
    "evaluate X": {"int8.x86.onnx"},
    "evaluate --reference X": {"int8.x86.onnx"},
}
"""Row -> the files that it runs on: what is whole can be looked into and timed, whatever it is for."""
LONG = ("compress --out X",)
"""Rows whose cells plan a whole job before they look at X; only likely files are tried, in the slow tier."""
HALF_A_SECOND = ("compress X", "evaluate --reference X", "evaluate --ijb X", "evaluate --cache X")
"""Rows that load a model or crops for each cell, as others do that are tried always."""
BELOW = ("folder", "missing")
WRITES = {
    "evaluate --out X": BELOW,
    "evaluate --cache X": BELOW,
    "check --junit X": BELOW,
    "synth --out X": BELOW,
    "compress --out X": ("missing", "nowhere"),
}
"""Row -> what it may write to, which other tests see to."""


@pytest.fixture(scope="module")
def place(finished, tmp_path_factory):
    """Give a folder with damaged files, good ones, and the words that stand for them in the table."""
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "files").mkdir()
    names = write_all(folder / "files", finished)
    drawn = synthetic_people(3, 2)
    for index in range(6):
        person = folder / "faces" / "people" / f"person-{index // 2}"
        person.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.images.crop(index)).save(person / f"{index % 2}.png")
    words = {"GOOD": finished / "tiny.pth", "RESULT": finished / "out", "FACES": folder / "faces"}
    before = snapshot(folder / "files")
    yield folder / "files", words, names
    assert snapshot(folder / "files") == before


def snapshot(folder):
    """Return all names below a folder, and the size of each file."""
    return {(str(path), path.lstat().st_size) for path in folder.rglob("*")}


@pytest.fixture
def run(monkeypatch, capfd):
    """Give a function that runs the command in this process and returns exit code, stdout and stderr, of C++ too."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["qface", *map(str, args)])
        capfd.readouterr()
        signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return (stop.value.code or 0, *capfd.readouterr())

    signal.signal(signal.SIGALRM, give_up)
    return run


def give_up(number, frame):
    raise TimeoutError("the command waits, or reads on end")


def fault(row, name, told):
    """Return what is wrong with how a command ended, or nothing."""
    code, out, err = told
    if name in RUNS.get(row, ()):
        return "" if code == 0 else f"exit {code} where it runs: {err[-300:]!r}"
    if code != 1 or out:
        return f"exit {code}, {len(out)} characters on stdout: {err[-300:]!r}"
    if not MESSAGE.fullmatch(err) or not err.replace("\n", "").isprintable():
        return f"this is no message: {err[:400]!r}"
    return ""


def cells(names, endings, *, likely):
    """Return the files that are likely for a row, or the others."""
    return [name for name in names if (Path(name).suffix in endings) == likely]


def run_row(row, names, folder, words, run, out):
    """Run a row of the table and return the faults, one for each cell that has one."""
    faults = {}
    for name in names:
        if Path(name).stem in WRITES.get(row, ()):
            continue
        _, text = COMMANDS[row]
        known = {**words, "OUT": out}
        args = [part.split("/", 1) for part in text.replace("calibration.set=X", "calibration.set=\0").split(" ")]
        given = [args_of(part, known, folder / name) for part in args]
        told = run(*given)
        if what := fault(row, name, told):
            faults[f"{row}: {name!r}"] = what
        if out.exists() or out.with_name("out.partial").exists():
            faults[f"{row}: {name!r} wrote"] = str(out)
            shutil.rmtree(out, ignore_errors=True)
    return faults


def args_of(part, known, file):
    """Return one argument of a command, the words of the table replaced."""
    head, rest = part[0], part[1:]
    if "\0" in head:
        return head.replace("\0", str(file))
    return "/".join([str({**known, "X": file}.get(head, head)), *rest])


def shown(faults):
    return "\n".join(f"{cell}: {what}" for cell, what in faults.items())


@pytest.mark.parametrize(
    "row", in_tiers(COMMANDS, fast=[row for row in COMMANDS if row not in (*LONG, *HALF_A_SECOND)])
)
def test_what_is_likely_to_be_handed(row, place, run, tmp_path):
    folder, words, names = place
    faults = run_row(row, cells(names, COMMANDS[row][0], likely=True), folder, words, run, tmp_path / "out")
    assert not faults, shown(faults)


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in COMMANDS if row not in LONG])
def test_everything_else(row, place, run, tmp_path):
    folder, words, names = place
    faults = run_row(row, cells(names, COMMANDS[row][0], likely=False), folder, words, run, tmp_path / "out")
    assert not faults, shown(faults)


MEMBERS = {
    "manifest.json": {"export", "verify"},
    "golden.npz": {"export", "verify"},
    "quantization.json": {"export", "inspect --sensitivity"},
    "model.safetensors": {"export", "inspect --sensitivity"},
    "report.json": {"check"},
    "float.onnx": {"evaluate"},
    "int8.x86.onnx": {"evaluate"},
}
"""File of a result -> the commands that refuse the folder when it is damaged."""
ON_RESULTS = {
    "verify": "verify X -q",
    "export": "export X --backend onnx-x86 --name again.onnx -q",
    "inspect --sensitivity": "inspect X --sensitivity -q",
    "check": "check X --baseline RESULT -q",
    "evaluate": "evaluate X --faces FACES/people --draws 10 -q",
}
DAMAGE = {
    "empty": lambda data: b"",
    "a quarter": lambda data: data[: len(data) // 4],
    "half": lambda data: data[: len(data) // 2],
    "three quarters": lambda data: data[: 3 * len(data) // 4],
    "page": lambda data: b"<html><body>not found</body></html>",
    "pointer": lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n",
}


@pytest.mark.parametrize("member", MEMBERS)
def test_a_result_with_a_damaged_file(member, finished_onnx, place, run, tmp_path):
    folder = shutil.copytree(finished_onnx / "out", tmp_path / "result")
    names = sorted(path.name for path in folder.iterdir())
    whole, words, faults = (folder / member).read_bytes(), {**place[1], "X": folder}, {}
    for damage, change in DAMAGE.items():
        (folder / member).write_bytes(change(whole))
        for command in sorted(MEMBERS[member]):
            args = [args_of(part.split("/", 1), words, folder) for part in ON_RESULTS[command].split(" ")]
            if what := fault(command, "", run(*args)):
                faults[f"{command}: {damage} {member}"] = what
    assert sorted(path.name for path in folder.iterdir()) == names
    assert not faults, shown(faults)


def test_a_damaged_file_that_verify_can_do_without_is_in_its_verdict(finished_onnx, run, tmp_path):
    folder = shutil.copytree(finished_onnx / "out", tmp_path / "result")
    damaged = [name for name in MEMBERS if "verify" not in MEMBERS[name]]
    for member in damaged:
        (folder / member).write_bytes((folder / member).read_bytes()[:1000])
    code, out, err = run("verify", folder, "--json", "-q")
    assert (code, err) == (1, "")
    assert {one["name"] for one in json.loads(out)["files"] if one["verdict"] == "damaged"} == set(damaged)


AS_NOBODY = """
import contextlib, io, json, os, shlex, sys
import qface_toolkit.cli, qface_toolkit.gate, qface_toolkit.pipeline, qface_toolkit.report, qface_toolkit.sources
from qface_toolkit import cli

def run(command):
    sys.argv, out, err = ["qface", *command], io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as stop:
        return [stop.code or 0, out.getvalue(), err.getvalue()]

commands = json.load(sys.stdin)
# The first time imports what is needed, which this user need not be allowed to read later.
for command in commands:
    run([part.replace("closed", "gone") for part in command])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
json.dump([run(command) for command in commands], sys.stdout)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_may_not_be_read_or_written(finished, place):
    """All in one process of a user who may read nothing: a closed file, and files in a closed folder."""
    with tempfile.TemporaryDirectory() as open_folder:
        top = Path(open_folder)
        top.chmod(0o755)
        (top / "closed").mkdir(mode=0o700)
        shutil.copy(finished / "tiny.pth", top / "good.pth")
        shutil.copytree(finished / "out", top / "result")
        shutil.copytree(place[1]["FACES"], top / "faces")
        cells = {}
        for row, (endings, text) in [(row, cell) for row, cell in COMMANDS.items() if row not in WRITES]:
            names = [f"{where}{endings[0]}" for where in ("closed", "closed/file")]
            for name in names:
                shutil.copy(finished / "tiny.pth", top / name)
                (top / name).chmod(0o600)
                words = {"GOOD": top / "good.pth", "RESULT": top / "result", "FACES": top / "faces", "OUT": top / "out"}
                text_of = text.replace("calibration.set=X", "calibration.set=\0").split(" ")
                cells[row, name] = [args_of(part.split("/", 1), words, top / name) for part in text_of]
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY], input=json.dumps(list(cells.values())), capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    told = dict(zip(cells, json.loads(done.stdout), strict=True))
    faults = {f"{row}: {name}": what for (row, name), one in told.items() if (what := fault(row, "", one))}
    assert not faults, shown(faults)
