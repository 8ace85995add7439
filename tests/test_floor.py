"""A floor, from the recipe to the exit code: what it adds to a job, what it mends, what a damaged file ends as."""

import pytest
from helpers import measure_quickly, run_here
from test_budget import RECIPE

from qface_toolkit.errors import RecipeError
from qface_toolkit.report import misses_floor, read_report
from qface_toolkit.result.manifest import read_manifest

FLOOR = RECIPE + "budget: {floor_cosine: 0.97}\n"


def steps(job):
    return [step.method for step in job.steps]


def test_a_floor_is_looked_at_after_all_steps(planned):
    job = planned(FLOOR)
    assert steps(job) == ["calibrate", "mend"]
    assert job.steps[-1].options.cosine_mean == 0.97


@pytest.mark.parametrize(
    "setting",
    [
        "budget.floor_cosine=null",
        "budget.cosine_mean=0.99",
        "steps=[calibrate, mixed: {cosine_mean: 0.9}]",
        "backends=[torch-x86]",
    ],
)
def test_a_floor_adds_nothing_where_layers_are_chosen_anyway_or_nothing_can_be_kept(planned, setting):
    assert "mend" not in steps(planned(FLOOR, setting))


@pytest.mark.parametrize("value", ["0", "1", "-0.5", "high", ".nan"])
def test_what_is_no_cosine_is_refused(planned, value):
    with pytest.raises(RecipeError, match="floor_cosine"):
        planned(FLOOR, f"budget.floor_cosine={value}")


@pytest.mark.slow
@pytest.mark.parametrize(("floor", "code"), [("0.5", 0), ("0.9999", 1)])
def test_a_damaged_file_ends_with_one_and_a_whole_folder(checkpoint, tmp_path, monkeypatch, capsys, floor, code):
    measure_quickly(monkeypatch)
    out = tmp_path / "out"
    wanted = ("--recipe", "int8-fast", "--set", "calibration.count=16", "--set", f"budget.floor_cosine={floor}")
    got, said, _ = run_here(monkeypatch, capsys, "compress", checkpoint, "--out", out, "--backend", "onnx-x86", *wanted)
    assert got == code
    assert said.startswith("ALARM: Damaged, do not ship: int8.x86.onnx") == bool(code)
    assert misses_floor(read_report(out / "report.json")) == bool(code)
    assert {"int8.x86.onnx", "float.onnx", "report.html", "golden.npz"} <= set(read_manifest(out).files)
