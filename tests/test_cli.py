"""The command line as scripts and CI jobs rely on it: what it prints where, and with which exit code it ends."""

import json
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml
from helpers import SMALL, contents, measure_quickly, run_here
from PIL import Image
from qdq_files import between, prelu, write
from rich.progress import Progress
from tiers import in_tiers

from qface_toolkit import __version__, pipeline, read_report
from qface_toolkit.cli._voice import progress
from qface_toolkit.pipeline import _sensitivity

COLUMNS = 80
LEAVES = ("compress", "evaluate", "benchmark", "check", "export", "inspect", "verify", "synth", "list", "recipes show")
EXPECTED = {
    "models": {"mobilefacenet", "mobilefacenet-relu6", "iresnet50", "pocketnet-s-128"},
    "recipes": {"int8", "int8-fast", "int8-best"},
    "sets": {"drawings", "drawings-heldout", "matched", "noise"},
    "sources": {"procedural", "folder"},
    "methods": {"equalize", "calibrate", "correct_bias", "reconstruct", "distill", "mixed"},
    "backends": {"onnx-x86", "onnx-arm", "torch-x86", "torch-onednn", "torch-qnnpack", "torch-fbgemm"},
}


@pytest.fixture
def qface(monkeypatch, capsys):
    """Give a function that runs the command in this process."""
    return lambda *args: run_here(monkeypatch, capsys, *args)


@pytest.fixture
def job(checkpoint, tmp_path):
    return ("compress", checkpoint, "--out", tmp_path / "out", *SMALL)


@pytest.fixture(scope="module")
def result(finished_onnx):
    return SimpleNamespace(out=finished_onnx / "out", report=read_report(finished_onnx / "out" / "report.json"))


@pytest.fixture
def finished(result, monkeypatch):
    """Let every job be done at once, with the report of one that was."""

    def run_job(job, out, *, force, resume, tell):
        tell("1. calibrate")(1, 1)
        return result.report

    monkeypatch.setattr(pipeline, "run_job", run_job)


def widest(text):
    return max(map(len, text.splitlines()))


def test_help_lists_the_commands(qface):
    code, out, err = qface("--help")
    assert (code, err) == (0, "")
    for command in ("compress", "export", "inspect", "verify", "synth", "list", "recipes"):
        assert re.search(rf"^  {command} ", out, re.MULTILINE), command


@pytest.mark.parametrize("command", ["", *LEAVES])
def test_help_imports_no_torch(command):
    program = (
        "import sys\nfrom qface_toolkit.cli import main\ntry:\n    main()\nexcept SystemExit as stop:\n"
        "    assert not stop.code\nsys.exit('torch is there' if 'torch' in sys.modules else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command.split(), "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: " in done.stdout


@pytest.mark.parametrize("command", LEAVES)
def test_help_gives_an_example(command, qface):
    code, out, _ = qface(*command.split(), "--help")
    assert code == 0
    assert re.search(rf"^  qface {command} \S", out, re.MULTILINE), out


def test_module_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "qface_toolkit", "--help"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "compress" in done.stdout


def test_version(qface):
    assert qface("--version")[:2] == (0, f"qface, version {__version__}\n")


USAGE = {
    "nothing": (),
    "command": ("compres",),
    "option": ("compress", "demo", "--out", "x", "--fast"),
    "no out": ("compress", "demo"),
    "no checkpoint": ("compress", "--out", "x"),
    "seed": ("compress", "demo", "--out", "x", "--seed", "-1"),
    "kind": ("list", "colours"),
    "count": ("synth", "drawings", "--out", "x", "--count", "0"),
}


@pytest.mark.parametrize("args", USAGE.values(), ids=USAGE)
def test_wrong_usage(args, qface):
    code, out, err = qface(*args)
    assert (code, out) == (2, "")
    assert "Usage: qface" in err


@pytest.mark.parametrize("kind", in_tiers(EXPECTED, fast=EXPECTED.keys() - {"models"}))
def test_list(kind, qface):
    code, out, err = qface("list", kind)
    assert (code, err) == (0, "")
    names = {line.split()[0] for line in out.splitlines() if not line.startswith(" ")}
    assert names >= EXPECTED[kind]
    told = json.loads(qface("list", kind, "--json")[1])
    assert told.keys() == {kind}
    assert {one["name"] for one in told[kind]} == names
    assert all(one["about"].strip() == one["about"] != "" for one in told[kind])


@pytest.mark.parametrize("name", ["int8", "int8-fast"])
def test_recipe_is_shown_as_it_is_written(name, qface):
    code, out, _ = qface("recipes", "show", name)
    assert (code, out[0]) == (0, "#")
    assert yaml.safe_load(out)["version"] == 1


@pytest.mark.parametrize("name", ["int8", "int8-fast"])
def test_full_recipe_is_the_same_recipe(name, qface, tmp_path):
    code, out, _ = qface("recipes", "show", name, "--full")
    full = tmp_path / "full.yaml"
    full.write_text(out)
    assert code == 0
    assert pipeline.read_full_recipe(str(full)) == pipeline.read_full_recipe(name)
    assert {"scheme", "target", "backends"} <= yaml.safe_load(out).keys()


def test_unknown_recipe(qface):
    code, out, err = qface("recipes", "show", "int9")
    assert (code, out) == (1, "")
    assert "int8" in err


def test_dry_run_writes_nothing(qface, job, tmp_path):
    code, out, err = qface(*job, "--dry-run")
    assert (code, err, list(tmp_path.iterdir())) == (0, "", [])
    for said in ("mobilefacenet", "112, 96", "calibrate", "int8.qnnpack.ts", "drawings"):
        assert said in out


def test_dry_run_as_json(qface, job, tmp_path):
    code, out, err = qface(*job, "--dry-run", "--json", "--backend", "onnx-x86")
    plan = json.loads(out)
    assert (code, err, list(tmp_path.iterdir())) == (0, "", [])
    assert plan["artifacts"] == ["float.onnx", "float.fast.onnx", "int8.x86.onnx"]
    assert (plan["steps"], plan["calibration"]["count"]) == (["equalize", "calibrate", "correct_bias"], 16)


def test_compress_tells_its_steps_and_where_the_result_is(qface, job, finished, tmp_path):
    code, out, err = qface(*job)
    assert (code, err) == (0, "1. calibrate\n")
    assert "int8.x86.onnx" in out
    assert f"Everything is in {tmp_path / 'out'}" in out


def test_quiet_says_nothing_but_the_result(qface, job, finished):
    code, out, err = qface(*job, "--quiet")
    assert (code, err) == (0, "")
    assert "int8.x86.onnx" in out


def test_json_is_the_report_and_nothing_else(qface, job, finished, result):
    code, out, err = qface(*job, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads((result.out / "report.json").read_text())
    assert read_report(result.out / "report.json") == result.report


@pytest.mark.slow
def test_whole_command_writes_json_alone(qface, checkpoint, monkeypatch, tmp_path):
    measure_quickly(monkeypatch)
    code, out, _ = qface("compress", checkpoint, "--out", tmp_path / "out", *SMALL, "--backend", "onnx-x86", "--json")
    assert code == 0
    report = json.loads(out)
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["commands"][0].startswith("qface compress ")


def test_synth_writes_a_set(qface, tmp_path):
    code, out, err = qface("synth", "drawings", "--out", tmp_path / "set", "--count", "3", "--seed", "5")
    assert (code, err) == (0, "write the images\n")
    assert "3 images" in out
    assert {path.name for path in (tmp_path / "set").iterdir()} == {"contact_sheet.png", "images", "manifest.json"}
    assert len(contents(tmp_path / "set" / "images")) == 3
    with Image.open(tmp_path / "set" / "images" / "000000.png") as image:
        assert image.size == (112, 112)


def test_synth_as_json_and_quiet(qface, tmp_path):
    code, out, _ = qface("synth", "noise", "--out", tmp_path / "a", "--count", "2", "--json")
    assert (code, json.loads(out)) == (0, json.loads((tmp_path / "a" / "manifest.json").read_text()))
    assert qface("synth", "noise", "--out", tmp_path / "b", "--count", "2", "--quiet") == (0, "", "")


def test_synth_replaces_nothing(qface, tmp_path):
    code, _, err = qface("synth", "noise", "--out", tmp_path, "--count", "2")
    assert (code, "exists" in err) == (1, True)
    assert not list(tmp_path.iterdir())


def test_export_prints_the_file(qface, result, tmp_path):
    folder = shutil.copytree(result.out, tmp_path / "out")
    code, out, err = qface("export", folder, "--backend", "torch-onednn")
    assert (code, out, err) == (0, f"{folder / 'int8.onednn.ts'}\n", "lower to int8.onednn.ts\n")
    assert (folder / "int8.onednn.ts").is_file()


def test_inspect_shows_what_runs(qface, result):
    code, out, err = qface("inspect", result.out / "int8.x86.onnx")
    assert (code, err) == (0, "look at int8.x86.onnx\n")
    [count] = re.findall(r"^QLinearConv +integers +(\d+) ", out, re.MULTILINE)
    assert f"All {count} convolutions run on integers." in out
    assert "No float islands." in out
    assert widest(out) <= COLUMNS


def test_inspect_a_result_as_json(qface, result):
    code, out, err = qface("inspect", result.out, "--json")
    assert (code, err) == (0, "")
    files = {file["name"]: file for file in json.loads(out)["files"]}
    assert files.keys() >= {"float.onnx", "int8.x86.onnx"}
    written = files["int8.x86.onnx"]
    assert written["integer_convolutions"] == written["convolutions"] > 0
    assert (written["islands"], written["float_layers"]) == ([], [])
    assert not files["float.onnx"]["quantized"]
    assert sum(one["share"] for one in files["float.onnx"]["operators"]) == pytest.approx(1)


def test_inspect_says_what_an_island_costs_and_why(qface, tmp_path):
    file = write(between(prelu), tmp_path / "someones.onnx")
    code, out, err = qface("inspect", file)
    told = " ".join(out.split())
    assert (code, err) == (0, "look at someones.onnx\n")
    assert "Warning: only 1 of 2 convolutions run on integers." in told
    assert "Conv second: its output is not followed by QuantizeLinear alone (read by PRelu)" in told
    assert re.search(r"Conv \+ PRelu, \d+\.\d % of the time: PRelu has no integer kernel", told)
    assert widest(out) <= COLUMNS


@pytest.mark.parametrize("name", ["nothing.onnx", "manifest.json", "empty"])
def test_inspect_refuses_in_words(name, qface, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "manifest.json").write_text("{}")
    code, out, err = qface("inspect", tmp_path / name)
    assert (code, out) == (1, "")
    assert str(tmp_path / name) in err


def test_inspect_says_where_the_loss_is(qface, result, monkeypatch):
    monkeypatch.setattr(_sensitivity, "IMAGES", 5)
    code, out, err = qface("inspect", result.out, "--sensitivity")
    assert (code, err) == (0, "switch each quantizer on 5 images\n")
    rows = re.findall(r"^\w+ +(?:activation|weights) +<?(\S+) +[+-]\S+$", out, re.MULTILINE)
    losses = [float(loss) for loss in rows]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 40
    assert "mean of 5 held-out drawings, in the onnx simulation" in " ".join(out.split())
    assert widest(out) <= COLUMNS


def test_inspect_says_where_the_loss_is_as_json(qface, result, monkeypatch):
    monkeypatch.setattr(_sensitivity, "IMAGES", 4)
    code, out, err = qface("inspect", result.out, "--sensitivity", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told == {"sensitivity": result.report.sensitivity.model_dump(mode="json")}


def test_an_artifact_alone_has_no_sensitivity(qface, result, tmp_path):
    code, out, err = qface("inspect", result.out / "int8.x86.onnx", "--sensitivity")
    assert (code, out) == (1, "")
    assert "give the folder with model.safetensors in it" in err
    code, out, err = qface("inspect", tmp_path, "--sensitivity")
    assert (code, out, str(tmp_path) in err) == (1, "", True)


def test_report_says_that_all_runs_on_integers(result):
    artifact = next(one for one in result.report.artifacts if one.name == "int8.x86.onnx")
    assert artifact.integer_convolutions == artifact.convolutions > 0
    assert artifact.integer_linear_layers == artifact.linear_layers == 1
    assert (artifact.islands, artifact.float_islands, artifact.integer_share) == ((), (), 1.0)
    said = f"int8.x86.onnx: all {artifact.convolutions} convolutions run on integers."
    assert said in (result.out / "report.md").read_text().splitlines()


def test_bug_of_ours_leaves_a_log(qface, job, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(pipeline, "plan_job", lambda *_, **__: {}["a key nobody set"])
    code, out, err = qface(*job)
    assert (code, out) == (3, "")
    assert "KeyError: 'a key nobody set'" in err
    log = next(tmp_path.glob("qface-*.log"))
    assert str(log) in err
    told = log.read_text()
    assert "KeyError: 'a key nobody set'" in told
    assert f"qface_toolkit {__version__}" in told
    assert told.startswith("qface compress ")


def test_bug_on_a_full_disk_is_still_told(qface, job, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    monkeypatch.setattr(pipeline, "plan_job", lambda *_, **__: {}["a key nobody set"])
    code, _, err = qface(*job)
    assert (code, "KeyError: 'a key nobody set'" in err) == (3, True), err


def test_interrupt(qface, job, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "plan_job", interrupted)
    code, out, err = qface(*job)
    assert (code, out, "Traceback" in err) == (130, "", False)
    assert "--resume" in err


MODELS = pytest.param(("list", "models"), marks=pytest.mark.slow)
"""Each of them is made, to count its parameters."""


@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        *((*leaf.split(), "--help") for leaf in LEAVES),
        *(("list", kind) for kind in EXPECTED if kind != "models"),
        MODELS,
    ],
    ids=" ".join,
)
def test_output_fits_the_terminal(args, qface):
    assert widest(qface(*args)[1]) <= COLUMNS


def test_plan_and_result_fit_the_terminal(qface, checkpoint, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = ("compress", checkpoint, "--out", "out", *SMALL)
    assert widest(qface(*job)[1]) <= COLUMNS
    assert widest(qface(*job, "--dry-run")[1]) <= COLUMNS


def test_progress_on_a_terminal_is_bars(capsys, monkeypatch):
    """On a terminal a step has a bar; elsewhere, as the tests above show, it is one line."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress(quiet=False) as tell:
        tell("1. calibrate")(1, 2)
    out, err = capsys.readouterr()
    assert (out, "1. calibrate" in err) == ("", True)


def test_a_bar_is_full_when_its_step_is_over(monkeypatch):
    """A step that never tells how far it is would go on for ever, on the screen."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown, stop = [], Progress.stop

    def told(bars):
        shown.extend((one.description, one.finished) for one in bars.tasks)
        stop(bars)

    monkeypatch.setattr(Progress, "stop", told)
    with progress(quiet=False) as tell:
        tell("look at float.onnx")
        tell("look at int8.x86.onnx")(1, 2)
    assert shown == [("look at float.onnx", True), ("look at int8.x86.onnx", True)]
