"""The Python API: the verbs of the command line, with values to read where it prints."""

import dataclasses
import inspect as python
import shutil
import subprocess
import sys

import numpy as np
import pytest

import qface_toolkit as qf
from qface_toolkit import cli
from qface_toolkit.backends import BACKENDS
from qface_toolkit.gate import open_report, update_baseline


@pytest.fixture(scope="module")
def out(finished_onnx):
    return finished_onnx / "out"


@pytest.fixture(scope="module")
def baseline(out, tmp_path_factory):
    return update_baseline(open_report(out), tmp_path_factory.mktemp("api") / "baseline.json")


def test_every_public_name_is_there_and_explained():
    for name in qf.__all__:
        assert (getattr(qf, name).__doc__ or "").strip(), name
    with pytest.raises(AttributeError, match="no attribute 'verfy'"):
        _ = qf.verfy


@pytest.mark.slow
def test_a_verb_stays_a_verb_when_its_rooms_are_imported():
    program = (
        "import sys, qface_toolkit as qf; assert 'torch' not in sys.modules\n"
        "import qface_toolkit.gate, qface_toolkit.cli, qface_toolkit.pipeline\n"
        "verbs = (qf.compress, qf.evaluate, qf.benchmark, qf.inspect, qf.verify, qf.check, qf.export)\n"
        "assert all(type(one).__name__ == 'function' for one in verbs), verbs"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("verb", ["compress", "evaluate", "benchmark", "inspect", "verify", "check", "export"])
def test_a_word_of_the_command_line_is_the_word_in_python(verb):
    """All that a command takes by a name is taken by that name in Python, unless it is about printing or writing."""
    of_cli = {one.name for one in cli.qface.commands[verb].params if not getattr(one, "hidden", False)}
    printing = {"as_json", "quiet", "verbose", "junit", "dry_run", "update"}
    elsewhere = {
        "compress": {"checkpoint"},
        "evaluate": {*qf.EvaluationSet.__dataclass_fields__, "suite", "out", "force"},
        "inspect": {"sensitivity"},
        "verify": {"folder"},
        "check": {"force"},
        "export": {"backends"},
    }
    known = python.signature(getattr(qf, verb)).parameters.keys()
    assert of_cli - printing - elsewhere.get(verb, set()) <= known


def test_verify(out):
    found = qf.verify(out)
    assert isinstance(found, qf.Verification)
    assert found.trustworthy
    assert {one.name for one in found.files} == {"float.onnx", "float.fast.onnx", "int8.x86.onnx"}
    assert all(isinstance(one, qf.FileVerdict) and one.ran for one in found.files)


def test_verify_tells_its_steps(out):
    told = []

    def tell(step):
        return lambda done, total: told.append((step, done, total))

    qf.verify(out, tell=tell)
    assert told == [("run the golden vectors", done, 3) for done in (1, 2, 3)]


def test_inspect(out):
    found = qf.inspect(out / "int8.x86.onnx")
    assert list(found) == ["int8.x86.onnx"]
    assert isinstance(found["int8.x86.onnx"], qf.Fusion)
    assert {one.reason for one in found["int8.x86.onnx"].convolutions} == {None}


def test_benchmark(out):
    found = qf.benchmark([out / "float.onnx", out / "int8.x86.onnx"], rounds=10)
    assert isinstance(found, qf.Benchmark)
    first, second = found.models
    assert isinstance(first, qf.Timed)
    assert first.times_faster is None
    ratio = np.array([second.times_faster.low, second.times_faster.value, second.times_faster.high])
    assert (np.diff(ratio) >= 0).all()
    assert second.size_bytes < first.size_bytes


def test_check_passes_against_itself(out, baseline):
    verdict = qf.check(out, baseline=baseline, sets=["latency_growth=null"])
    assert isinstance(verdict, qf.Verdict)
    assert (verdict.passed, verdict.outcome) == (True, "passed")
    assert all(isinstance(one, qf.Finding) for one in verdict.findings)


def test_check_fails_by_a_budget(out, baseline, tmp_path):
    before = open_report(baseline).report
    half = [one.model_copy(update={"size_bytes": one.size_bytes // 2, "cost": None}) for one in before.artifacts]
    small = tmp_path / "small.json"
    small.write_text(before.model_copy(update={"artifacts": tuple(half)}).model_dump_json())
    verdict = qf.check(str(out), baseline=str(small), sets=["latency_growth=null"])
    assert not verdict.passed
    assert "int8.x86.onnx" in {one.artifact for one in verdict.of("failed")}
    budgets = tmp_path / "budgets.yaml"
    budgets.write_text("size_bytes_growth: 1.5\nlatency_growth: null\n")
    assert qf.check(out, baseline=small, budgets=budgets).passed


def test_a_strict_verdict_does_not_pass_what_it_could_not_tell():
    unsure = qf.Verdict((qf.Finding("int8.x86.onnx", "latency", "inconclusive", "the machine was busy"),))
    assert unsure.passed
    assert not dataclasses.replace(unsure, strict=True).passed


def test_what_is_wrong_is_told_in_words(tmp_path):
    for ask in (qf.verify, qf.inspect, lambda path: qf.check(path, baseline=path), lambda path: qf.benchmark([path])):
        with pytest.raises(qf.QFaceError):
            ask(tmp_path / "nothing")


def test_a_result_is_a_value_that_every_verb_takes(out, tmp_path):
    copy = shutil.copytree(out, tmp_path / "out")
    result = qf.open_result(copy)
    assert result.damaged == {} and set(result.names) == set(result.manifest.files) > {"int8.x86.onnx", "golden.npz"}
    assert result.backend("int8.x86.onnx") is BACKENDS.get("onnx-x86")
    assert result.golden()["int8.x86.onnx"].shape == result.golden()["float"].shape
    assert result.told("recipe")["backends"] == ["onnx-x86"] and result.target() is BACKENDS.get("onnx-x86").target
    assert {one.name for one in result.report().artifacts} < {*result.names}
    assert qf.verify(result).trustworthy
    assert set(qf.inspect(result)) == {name for name in result.names if name.endswith(".onnx")}
    (again := qf.export(result, "onnx-x86", name="again.onnx")).write_bytes(b"changed")
    result = qf.open_result(copy)
    assert result.backend("again.onnx") is BACKENDS.get("onnx-x86")
    assert result.damaged == {again.name: "it is not what the manifest says"}
    (copy / "model.safetensors").unlink()
    with pytest.raises(qf.QFaceError, match=r"model\.safetensors"):
        result.model()


def test_a_folder_that_is_no_result_is_not_opened(tmp_path):
    with pytest.raises(qf.QFaceError, match=r"manifest\.json"):
        qf.open_result(tmp_path)
