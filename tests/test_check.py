"""qface check: what it prints where, which exit code it ends with, and what it refuses."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import onnx
import pytest
from helpers import run_here

from qface_toolkit import pipeline
from qface_toolkit.gate import open_report, update_baseline
from qface_toolkit.pipeline import _check
from qface_toolkit.report import read_report

INT8 = "int8.x86.onnx"


@pytest.fixture(scope="module")
def result(finished_onnx):
    return finished_onnx / "out"


@pytest.fixture
def baseline(result, tmp_path):
    return update_baseline(open_report(result), tmp_path / "baseline.json")


@pytest.fixture(autouse=True)
def no_summary(monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture
def qface(monkeypatch, capsys):
    return lambda *args: run_here(monkeypatch, capsys, *args)


def edited(result, path, change):
    """Write the result's report after a change of its plain values."""
    found = json.loads((result / "report.json").read_text())
    change(found)
    path.write_text(json.dumps(found))
    return path


def int8(found):
    return next(one for one in found["artifacts"] if one["name"] == INT8)


def grow(found):
    int8(found)["size_bytes"] *= 2
    int8(found)["cost"] = None


def make_noisy(found):
    for place, one in enumerate(found["artifacts"]):
        samples = one["latency"]["samples_ms"]
        one["latency"]["samples_ms"] = [sample * (1 + 9 * ((at + place) % 3 == 0)) for at, sample in enumerate(samples)]


def test_a_report_passes_against_its_own_baseline(qface, result, baseline):
    code, out, err = qface("check", result, "--baseline", baseline, "--set", "latency_growth=5")
    assert (code, err) == (0, "")
    assert "PASSED: " in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_loss_fails_with_one(qface, result, baseline, tmp_path):
    report = edited(result, tmp_path / "report.json", grow)
    code, out, err = qface("check", report, "--baseline", baseline, "--set", "latency_growth=null")
    assert (code, err) == (1, "")
    assert "FAILED: " in out
    code, out, err = qface("check", report, "--baseline", baseline, "--set", "latency_growth=null", "--json")
    told = json.loads(out)
    assert (code, err, told["outcome"]) == (1, "", "failed")
    assert [one["figure"] for one in told["findings"] if one["outcome"] == "failed"] == ["size_bytes"]


def test_what_cannot_be_told_is_a_warning_and_with_strict_a_failure(qface, result, baseline, tmp_path):
    report = edited(result, tmp_path / "report.json", make_noisy)
    tight = ("check", report, "--baseline", baseline, "--set", "latency_growth=0.0")
    code, out, err = qface(*tight)
    assert (code, err.startswith("warning: "), "--measure" in err) == (0, True, True)
    assert "INCONCLUSIVE" in out
    assert qface(*tight, "--strict")[0] == 1


def test_pages_for_ci(qface, result, baseline, tmp_path, monkeypatch):
    summary, junit = tmp_path / "summary.md", tmp_path / "junit" / "check.xml"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    options = ("--junit", junit, "--set", "latency_growth=null", "--json")
    report = edited(result, tmp_path / "report.json", lambda found: found["source"].update(name="<script>x</script>"))
    assert qface("check", report, "--baseline", baseline, *options)[0] == 0
    assert summary.read_text().startswith("before\n## qface check: &lt;script&gt;x")
    assert ElementTree.parse(junit).getroot().get("failures") == "0"


def test_budgets_come_from_a_file(qface, result, baseline, tmp_path):
    report = edited(result, tmp_path / "report.json", grow)
    (tmp_path / "budgets.yaml").write_text("size_bytes_growth: 1.0\nlatency_growth: null\n")
    assert qface("check", report, "--baseline", baseline, "--budgets", tmp_path / "budgets.yaml")[0] == 0


def test_update_writes_a_small_baseline_that_names_no_place(qface, result, tmp_path):
    place = tmp_path / "new" / "baseline.json"
    code, out, err = qface("check", result, "--baseline", place, "--update")
    assert (code, err) == (0, "")
    assert str(place) in "".join(out.split("\n"))
    found = read_report(place)
    assert (found.commands, found.parity, found.sensitivity) == ((), None, None)
    assert found.artifacts[0].latency == read_report(result / "report.json").artifacts[0].latency
    code, out, _ = qface("check", result, "--baseline", place, "--update", "--json")
    assert (code, json.loads(out)) == (
        0,
        {"outcome": "updated", "baseline": str(place), "check": f"qface check {result} --baseline {place}"},
    )


def write_evaluation(folder, sha256):
    """Write an evaluation beside a result's report, as though it were of the file with this hash."""
    environment = json.loads((folder / "report.json").read_text())["environment"]
    model = {"name": INT8, "sha256": sha256, "runtime": "ort", "embedding_size": 32}
    data = {"kind": "drawings", "name": "x", "images": 1, "sha256": "e" * 64}
    whole = {
        "schema_version": 1,
        "model": model,
        "data": data,
        "flip": False,
        "figures": {},
        "environment": environment,
    }
    (folder / "evaluation.json").write_text(json.dumps(whole))


def test_update_takes_the_evaluation_along(qface, result, tmp_path):
    folder = shutil.copytree(result, tmp_path / "copy")
    write_evaluation(folder, _sha(result / INT8))
    assert qface("check", folder, "--baseline", tmp_path / "b.json", "--update")[0] == 0
    assert json.loads((tmp_path / "b.evaluation.json").read_text())["data"]["kind"] == "drawings"
    compared = ("check", result, "--baseline", tmp_path / "b.json", "--set", "latency_growth=null")
    code, out, _ = qface(*compared)
    assert (code, "the baseline has an evaluation" in " ".join(out.split())) == (0, True)
    assert out.startswith("PASSED, BUT 1 FIGURE WAS NOT LOOKED AT: ")
    assert qface(*compared, "--strict")[0] == 1
    # It is of these very files, so a new baseline keeps it.
    assert qface("check", result, "--baseline", tmp_path / "b.json", "--update")[0] == 0
    assert (tmp_path / "b.evaluation.json").is_file()


def test_update_loses_no_evaluation_unless_forced(qface, result, tmp_path):
    folder, place = shutil.copytree(result, tmp_path / "copy"), tmp_path / "b.json"
    write_evaluation(folder, "c" * 64)
    code, _, err = qface("check", folder, "--baseline", place, "--update")
    assert (code, "its evaluation is that of another file" in err, place.exists()) == (1, True, False)
    assert qface("check", result, "--baseline", place, "--update")[0] == 0
    (folder / "evaluation.json").rename(tmp_path / "b.evaluation.json")
    code, _, err = qface("check", result, "--baseline", place, "--update")
    assert (code, "qface evaluate" in err, "--synthetic" in err, "--force" in err) == (1, True, True, True)
    assert (tmp_path / "b.evaluation.json").is_file()
    assert qface("check", result, "--baseline", place, "--update", "--force")[0] == 0
    assert not (tmp_path / "b.evaluation.json").exists()


def test_the_first_line_and_the_exit_code_tell_what_a_lone_report_leaves_open(qface, result, baseline, tmp_path):
    report = shutil.copy(result / "report.json", tmp_path / "elsewhere.json")
    alone = ("check", report, "--baseline", baseline, "--set", "latency_growth=null")
    code, out, _ = qface(*alone)
    assert (code, out.startswith("PASSED, BUT 1 FIGURE WAS NOT LOOKED AT: ")) == (0, True)
    code, out, _ = qface(*alone, "--strict", "--json")
    told = json.loads(out)
    assert (code, told["outcome"], told["total"] - told["compared"]) == (1, "failed", 1)
    assert [one["artifact"] for one in told["skipped"]] == ["all files"]
    code, out, err = qface(*alone, "--measure")
    assert (code, out, "no files beside this report to measure" in err) == (1, "", True)


def test_a_float_file_in_the_place_of_int8_fails_without_measuring(qface, result, baseline, tmp_path):
    copy = shutil.copytree(result, tmp_path / "copy")
    shutil.copy(copy / "float.onnx", copy / INT8)
    code, out, _ = qface("check", copy, "--baseline", baseline)
    assert (code, out.startswith("FAILED: ")) == (1, True)
    assert f"FAILED: {INT8}: it is not the file that the manifest speaks of" in " ".join(out.split())


def another_model(found):
    found["source"]["sha256"] = "d" * 64


def test_a_baseline_of_another_model_is_refused_and_not_replaced(qface, result, tmp_path):
    other = edited(result, tmp_path / "other.json", another_model)
    for more in ((), ("--update",)):
        code, out, err = qface("check", result, "--baseline", other, *more)
        assert (code, out) == (1, "")
        assert "another model" in err
        assert "--update --force" in err
    assert read_report(other).source.sha256 == "d" * 64
    assert qface("check", result, "--baseline", other, "--update", "--force")[0] == 0
    assert read_report(other).source == read_report(result / "report.json").source


def test_update_leaves_results_alone(qface, result, tmp_path):
    copy = shutil.copytree(result, tmp_path / "copy")
    before = (copy / "report.json").read_bytes()
    code, _, err = qface("check", result, "--baseline", copy, "--update", "--force")
    assert (code, "no place for a baseline" in err) == (1, True)
    assert (copy / "report.json").read_bytes() == before


def test_a_broken_baseline_is_replaced_only_by_force(qface, result, tmp_path):
    broken = tmp_path / "b.json"
    broken.write_text("{")
    assert qface("check", result, "--baseline", broken, "--update")[0] == 1
    assert qface("check", result, "--baseline", broken, "--update", "--force")[0] == 0


def test_force_alone_is_wrong_usage(qface, result, baseline):
    code, out, err = qface("check", result, "--baseline", baseline, "--force")
    assert (code, out, "--update" in err) == (2, "", True)


def nan(found):
    int8(found)["agreement"]["cosine_mean"] = float("nan")


BAD = {
    "older version": (lambda found: found.update(schema_version=0), "schema version 0"),
    "newer version": (lambda found: found.update(schema_version=99), "schema version 99"),
    "no version": (lambda found: found.pop("schema_version"), "schema version"),
    "NaN": (nan, "NaN is not a figure"),
    "infinity": (lambda found: int8(found).update(size_ratio=float("inf")), "Infinity is not a figure"),
    "text for a figure": (lambda found: int8(found).update(size_bytes="small"), "size_bytes"),
    "negative time": (lambda found: int8(found)["latency"].update(p50_ms=-1), "p50_ms"),
    "unknown key": (lambda found: found.update(extra=1), "extra"),
    "two of a name": (lambda found: found["artifacts"].append(int8(found)), "same name"),
}


@pytest.mark.parametrize("side", ["report", "baseline"])
@pytest.mark.parametrize(("change", "told"), BAD.values(), ids=BAD)
def test_hand_edited_reports_are_refused_in_words(change, told, side, qface, result, baseline, tmp_path):
    bad = edited(result, tmp_path / "bad.json", change)
    pair = (bad, "--baseline", baseline) if side == "report" else (result, "--baseline", bad)
    code, out, err = qface("check", *pair)
    assert (code, out, "Traceback" in err) == (1, "", False)
    assert told in err
    assert str(bad) in err


@pytest.mark.parametrize("side", ["report", "baseline"])
@pytest.mark.parametrize("keep", [0, 1, 1000, -2])
def test_truncated_reports_are_refused(keep, side, qface, result, baseline, tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_bytes((result / "report.json").read_bytes()[:keep])
    pair = (bad, "--baseline", baseline) if side == "report" else (result, "--baseline", bad)
    code, out, err = qface("check", *pair)
    assert (code, out, "not JSON" in err or "is empty" in err) == (1, "", True)


def test_a_report_of_the_first_version_is_a_baseline(qface, result, tmp_path):
    def older(found):
        found["schema_version"] = 1
        for one in found["artifacts"]:
            one.pop("cost", None)
            if one["agreement"]:
                known = ("cosine_mean", "cosine_p1", "cosine_min", "images", "what")
                one["agreement"] = {key: one["agreement"][key] for key in known}
            if one["simulation_agreement"]:
                known = ("cosine_mean", "cosine_p1", "cosine_min", "images", "what")
                one["simulation_agreement"] = {key: one["simulation_agreement"][key] for key in known}

    older_report = edited(result, tmp_path / "first.json", older)
    code, out, err = qface("check", result, "--baseline", older_report, "--set", "latency_growth=null")
    assert (code, "PASSED" in out) == (0, True), err


def test_nothing_there_is_told_with_what_to_do(qface, result, baseline, tmp_path):
    code, out, err = qface("check", result, "--baseline", tmp_path / "none.json")
    assert (code, out, "--update" in err) == (1, "", True)
    code, out, err = qface("check", tmp_path, "--baseline", baseline)
    assert (code, out, "qface compress" in err) == (1, "", True)


def test_check_alone_takes_little_time_and_no_torch(result, baseline):
    program = (
        "import sys\nfrom qface_toolkit.cli import main\ntry:\n    main()\nexcept SystemExit as stop:\n"
        "    assert not stop.code\nsys.exit('torch is there' if 'torch' in sys.modules else 0)\n"
    )
    command = [sys.executable, "-c", program, "check", result, "--baseline", baseline, "--set", "latency_growth=null"]
    started = time.process_time()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.process_time() - started < 5


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr(_check, "LONGEST_S", 1.0)


@pytest.mark.slow
def test_a_baseline_that_was_measured_among_other_files_is_not_compared(qface, result, baseline, quickly):
    code, out, err = qface("check", result, "--baseline", baseline, "--measure", "--json")
    (found,) = [one for one in json.loads(out)["findings"] if one["figure"] == "latency_ratio"]
    assert (code, err, found["outcome"]) == (0, "", "not looked at")
    assert "make the baseline anew with --update --measure" in found["said"]


@pytest.mark.slow
def test_measure_compares_the_files_beside_the_report(qface, result, baseline, quickly):
    code, out, _ = qface("check", result, "--baseline", baseline, "--measure", "--update")
    assert (code, out.splitlines()[-1]) == (0, f"qface check {result} --baseline {baseline} --measure")
    code, out, _ = qface("check", result, "--baseline", baseline)
    assert (code, "add --measure to this check" in " ".join(out.split())) == (0, True)
    code, out, err = qface("check", result, "--baseline", baseline, "--measure", "--set", "latency_growth=9", "--json")
    (found,) = [one for one in json.loads(out)["findings"] if one["figure"] == "latency_ratio"]
    assert (code, err, found["outcome"]) == (0, "", "passed")
    recorded = pipeline.measure_beside(open_report(result))
    assert recorded.files.keys() == {"float.onnx", "float.fast.onnx", INT8}
    assert len({len(one.samples_ms) for one in recorded.files.values()}) == 1


@pytest.mark.slow
def test_update_with_measure_keeps_the_new_latencies(qface, result, tmp_path, quickly):
    assert qface("check", result, "--baseline", tmp_path / "b.json", "--update", "--measure")[0] == 0
    found, before = read_report(tmp_path / "b.json"), read_report(result / "report.json")
    assert found.artifacts[2].latency != before.artifacts[2].latency
    assert found.float_latency["onnxruntime"] == found.artifacts[0].latency
    assert len(found.float_latency["onnxruntime"].samples_ms) == len(found.artifacts[2].latency.samples_ms)


@pytest.mark.slow
def test_measure_runs_no_file_that_the_report_does_not_speak_of(qface, result, baseline, tmp_path, quickly):
    copy = shutil.copytree(result, tmp_path / "copy")
    model = onnx.load(copy / INT8)
    model.doc_string = "another"
    (copy / INT8).write_bytes(model.SerializeToString())
    code, out, err = qface("check", copy, "--baseline", baseline, "--measure")
    assert (code, "the file is not the one that the report speaks of" in " ".join(out.split())) == (1, True)


@pytest.mark.slow
def test_measure_without_a_file_compares_the_rest(qface, result, baseline, tmp_path, quickly):
    copy = shutil.copytree(result, tmp_path / "copy")
    (copy / INT8).unlink()
    code, out, _ = qface("check", copy, "--baseline", baseline, "--measure", "--json")
    (found,) = [one for one in json.loads(out)["findings"] if one["figure"] == "latency_ratio"]
    assert (code, found["outcome"], "not beside the report" in found["said"]) == (1, "not looked at", True)
    (copy / "float.onnx").unlink()
    code, out, _ = qface("check", copy, "--baseline", baseline, "--measure", "--json")
    told = json.loads(out)
    assert (code, {one["artifact"] for one in told["findings"] if one["outcome"] == "failed"}) == (
        1,
        {INT8, "float.onnx"},
    )


def test_measure_follows_no_name_out_of_the_folder(qface, result, baseline, tmp_path, quickly):
    def point_outside(found):
        int8(found)["name"] = f"../{INT8}"
        if found["verification"]:
            found["verification"] = None
        found["parity"] = None

    copy = shutil.copytree(result, tmp_path / "copy")
    shutil.copy(result / INT8, tmp_path / INT8)
    edited(result, copy / "report.json", point_outside)
    found = pipeline.measure_beside(open_report(copy))
    assert f"../{INT8}" in found.missing


def test_external_data_outside_the_folder_is_not_read(qface, result, baseline, tmp_path, quickly):
    copy = shutil.copytree(result, tmp_path / "copy")
    model = onnx.load(copy / INT8)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (copy / INT8).write_bytes(model.SerializeToString())

    def told(found):
        int8(found)["sha256"] = _sha(copy / INT8)

    edited(result, copy / "report.json", told)
    code, out, err = qface("check", copy, "--baseline", baseline, "--measure")
    assert (code, out, "no plain file name" in err) == (1, "", True)


def _sha(path: Path):
    from qface_toolkit.untrusted.reading import file_sha256

    return file_sha256(path)
