"""A check looks at the files themselves: what is missing, changed or unknown, and what a lone report leaves open."""

import json
import shutil

import pytest
from made_reports import list_files, values, whole_result, write

from qface_toolkit.errors import ArtifactError
from qface_toolkit.gate import compare, open_report, read_budgets, update_baseline

INT8, FAST = "int8.x86.onnx", "float.fast.onnx"


@pytest.fixture
def folder(tmp_path):
    whole_result(tmp_path)
    return tmp_path


@pytest.fixture
def baseline(folder, tmp_path_factory):
    return open_report(update_baseline(open_report(folder), tmp_path_factory.mktemp("baseline") / "b.json"))


def verdict_on(place, baseline, **how):
    return compare(open_report(place), baseline, read_budgets(), **how)


def of_files(verdict):
    return {one.artifact: (one.outcome, one.said) for one in verdict.findings if one.figure == "sha256"}


def test_files_that_are_their_own_pass_as_one_figure(folder, baseline):
    verdict = verdict_on(folder, baseline, strict=True)
    assert verdict.outcome == "passed", verdict.skipped
    assert of_files(verdict) == {"all files": ("passed", "5 files are those of the report and the manifest")}


def replace(folder):
    shutil.copy(folder / "float.onnx", folder / INT8)


def swap(folder):
    for name, other in ((INT8, "x"), (FAST, INT8), ("x", FAST)):
        (folder / name).rename(folder / other)


def edit_one_byte(folder):
    (folder / INT8).write_bytes((folder / INT8).read_bytes()[:-1] + b"?")


def edit_report(folder):
    found = json.loads((folder / "report.json").read_text())
    found["artifacts"][2]["agreement"]["cosine_mean"] = 0.9999
    write(found, folder / "report.json")


def export_over_it(folder):
    edit_one_byte(folder)
    list_files(folder)


def make_a_fifo(folder):
    import os

    (folder / INT8).unlink()
    os.mkfifo(folder / INT8)


def spoil_manifest(folder):
    (folder / "manifest.json").write_text("{")


WRONG = {
    "another file in its place": (replace, {INT8: "not the file that the manifest speaks of"}),
    "two files swapped": (swap, {INT8: "not the file", FAST: "not the file"}),
    "one byte": (edit_one_byte, {INT8: "not the file"}),
    "missing": (lambda folder: (folder / INT8).unlink(), {INT8: "it is missing"}),
    "no file at all": (make_a_fifo, {INT8: "it is missing"}),
    "missing, and in no report": (lambda folder: (folder / "golden.npz").unlink(), {"golden.npz": "it is missing"}),
    "edited report": (edit_report, {"report.json": "not the file that the manifest speaks of"}),
    "written after the report": (export_over_it, {INT8: "not the file that was measured for the report"}),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), {"manifest.json": "there is no such file"}),
    "broken manifest": (spoil_manifest, {"manifest.json": "not JSON"}),
}


@pytest.mark.parametrize("given", ["folder", "report.json"])
@pytest.mark.parametrize(("harm", "told"), WRONG.values(), ids=WRONG)
def test_a_file_that_is_not_the_reports_fails(harm, told, given, folder, baseline):
    harm(folder)
    verdict = verdict_on(folder if given == "folder" else folder / given, baseline)
    failed = {name: said for name, (outcome, said) in of_files(verdict).items() if outcome == "failed"}
    assert verdict.failed
    assert failed.keys() == told.keys()
    for name, part in told.items():
        assert part in failed[name]


@pytest.mark.parametrize(("harm", "told"), WRONG.values(), ids=WRONG)
def test_such_a_folder_makes_no_baseline(harm, told, folder, tmp_path_factory):
    harm(folder)
    place = tmp_path_factory.mktemp("new") / "b.json"
    with pytest.raises(ArtifactError, match="they make no baseline"):
        update_baseline(open_report(folder), place, force=True)
    assert not place.exists()


def test_a_report_alone_is_told_from_a_result(folder, baseline, tmp_path_factory):
    alone = shutil.copy(folder / "report.json", tmp_path_factory.mktemp("alone") / "copy.json")
    verdict = verdict_on(alone, baseline)
    (outcome, said) = of_files(verdict)["all files"]
    assert (verdict.outcome, outcome, "only a report was given" in said) == ("passed", "not looked at", True)
    assert verdict_on(alone, baseline, strict=True).failed


def test_a_folder_with_nothing_but_the_report_fails(folder, baseline, tmp_path_factory):
    alone = tmp_path_factory.mktemp("alone")
    shutil.copy(folder / "report.json", alone)
    assert "float.onnx" in {one.artifact for one in verdict_on(alone, baseline).of("failed")}


def test_a_file_that_nobody_speaks_of_was_not_looked_at(folder, baseline):
    (folder / "other.onnx").write_bytes(b"x")
    assert of_files(verdict_on(folder, baseline))["other.onnx"][0] == "not looked at"
    assert verdict_on(folder, baseline, strict=True).failed


def test_another_report_within_the_folder_was_not_looked_at(folder, baseline):
    write(values(), folder / "mine.json")
    assert of_files(verdict_on(folder / "mine.json", baseline))["mine.json"][0] == "not looked at"
