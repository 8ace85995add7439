"""A wanted cosine, from the recipe to the report: the step it adds, what is refused, and what the result can do."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import measure_quickly, run_here

from qface_toolkit import pipeline
from qface_toolkit.errors import RecipeError
from qface_toolkit.evidence import kept
from qface_toolkit.evidence.kept import pareto_counts
from qface_toolkit.methods import allocate
from qface_toolkit.quantize.model import load_quantized
from qface_toolkit.report import to_markdown

RECIPE = "version: 1\ncalibration: {count: 64, batch_size: 16}\nsteps: [calibrate]\nbackends: [onnx-x86, torch-x86]\n"
WANTED = 0.9995


def compressed(checkpoint, folder, *sets):
    (folder / "mine.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        measure_quickly(patch)
        patch.setattr(kept, "ROUNDS", 5)
        job = pipeline.plan_job(checkpoint, recipe=str(folder / "mine.yaml"), sets=sets)
        return SimpleNamespace(out=folder / "out", report=pipeline.run_job(job, folder / "out"), job=job)


@pytest.fixture(scope="module")
def result(checkpoint, tmp_path_factory):
    return compressed(checkpoint, tmp_path_factory.mktemp("job"), f"budget.cosine_mean={WANTED}")


def test_the_budget_is_the_last_step(planned):
    job = planned(RECIPE, "budget.cosine_mean=0.99")
    assert [step.method for step in job.steps] == ["calibrate", "mixed"]
    assert job.steps[-1].options.cosine_mean == 0.99
    assert [step.method for step in job.recipe.steps] == ["calibrate"]
    assert [step.method for step in planned(RECIPE).steps] == ["calibrate"]


@pytest.mark.parametrize("value", ["0", "1", "1.5", "-0.1", "yes", "'0.9'", ".nan"])
def test_a_budget_that_is_no_cosine_below_one_is_refused(planned, value):
    with pytest.raises(RecipeError, match="budget.cosine_mean"):
        planned(RECIPE, f"budget.cosine_mean={value}")


def test_a_budget_needs_a_form_that_can_mix(planned):
    torch_first = RECIPE.replace("[onnx-x86, torch-x86]", "[torch-x86, onnx-x86]")
    with pytest.raises(RecipeError, match="the first backend is torch-x86"):
        planned(torch_first, "budget.cosine_mean=0.99")
    with pytest.raises(RecipeError, match="the first backend is torch-x86"):
        planned(torch_first.replace("[calibrate]", "[calibrate, mixed]"))


def test_layers_are_chosen_once(planned):
    with pytest.raises(RecipeError, match="once"):
        planned(RECIPE.replace("[calibrate]", "[calibrate, mixed]"), "budget.cosine_mean=0.99")


@pytest.mark.slow
def test_the_report_says_what_the_cosine_costs(result):
    block, [artifact] = result.report.budget, [one for one in result.report.artifacts if one.backend == "onnx-x86"]
    assert 0 < len(block.kept) <= block.layers
    assert block.points[0].cosine_mean < block.points[-1].cosine_mean
    assert block.points[0].size_bytes < block.points[-1].size_bytes == artifact.size_bytes
    assert block.points[-1].cosine_mean == pytest.approx(artifact.agreement.cosine_mean, abs=1e-6)
    assert all(point.p50_ms > 0 and point.times_faster > 0 for point in block.points)
    assert block.points[0].times_faster == 1
    assert block.reached == (artifact.agreement.cosine_mean >= WANTED)
    assert artifact.kept_convolutions > 0
    assert artifact.integer_convolutions + artifact.kept_convolutions == artifact.convolutions
    assert "## Pareto: cosine against latency and bytes" in to_markdown(result.report)


@pytest.mark.slow
def test_files_say_what_was_simulated(result):
    [artifact] = [one for one in result.report.artifacts if one.backend == "onnx-x86"]
    assert artifact.simulation_agreement.cosine_min > 0.9999
    assert {one.verdict for one in pipeline.verify(result.out).files} <= {"exact", "agrees"}


@pytest.mark.slow
def test_other_backends_are_what_they_are_without_a_budget(result, checkpoint, tmp_path):
    without = compressed(checkpoint, tmp_path)
    assert (without.out / "int8.x86.ts").read_bytes() == (result.out / "int8.x86.ts").read_bytes()
    assert without.report.budget is None
    assert "kept" not in json.loads((without.out / "quantization.json").read_text())["plan"]


@pytest.mark.slow
def test_a_result_is_exported_as_it_was_written(result):
    again = pipeline.export(result.out, "onnx-x86", name="again.onnx")
    assert again.read_bytes() == (result.out / "int8.x86.onnx").read_bytes()
    model = load_quantized(result.out / "quantization.json", result.out / "model.safetensors")
    assert model.plan.kept == result.report.budget.kept
    arm = pipeline.export(result.out, "onnx-arm")
    assert b"kept in float by the budget" in arm.read_bytes()
    found = {one.name: one.verdict for one in pipeline.verify(result.out).files}
    assert found[arm.name] in ("exact", "agrees")


@pytest.mark.slow
def test_a_budget_that_int8_meets_keeps_nothing(checkpoint, tmp_path):
    found = compressed(checkpoint, tmp_path, "budget.cosine_mean=0.5")
    assert (found.report.budget.kept, len(found.report.budget.points)) == ((), 1)
    assert "int8 alone reaches the wanted mean cosine of 0.5" in to_markdown(found.report)


@pytest.mark.slow
def test_a_budget_may_keep_everything(checkpoint, tmp_path):
    found = compressed(checkpoint, tmp_path, "budget.cosine_mean=0.99999999")
    [artifact] = [one for one in found.report.artifacts if one.backend == "onnx-x86"]
    assert len(found.report.budget.kept) == found.report.budget.layers
    assert (artifact.integer_convolutions, artifact.kept_convolutions) == (0, artifact.convolutions)
    assert artifact.agreement.cosine_min > 0.999999
    assert {one.verdict for one in pipeline.verify(found.out).files} <= {"exact", "agrees"}


def test_a_dry_run_names_the_step(checkpoint, tmp_path, monkeypatch, capsys):
    args = ("compress", checkpoint, "--out", tmp_path / "out", "--dry-run", "--set", "budget.cosine_mean=0.99")
    code, out, _ = run_here(monkeypatch, capsys, *args)
    assert code == 0
    assert "calibrate, reconstruct, mixed" in out


@pytest.mark.parametrize(("kept", "counts"), [(0, [0]), (1, [0, 1]), (2, [0, 1, 2]), (9, [0, 1, 2, 4, 8, 9])])
def test_points_double(kept, counts):
    assert pareto_counts(kept) == counts
    assert np.all(np.diff(counts) > 0)


PACKED = "packed.x86.onnx"
ALLOCATED = RECIPE.replace("onnx-x86, torch-x86", "onnx-packed-x86")


def test_widths_are_allocated_behind_the_ranges(planned):
    more = ALLOCATED.replace("[calibrate]", "[equalize, calibrate, correct_bias]")
    job = planned(more, "budget.bytes=0.3")
    assert [step.method for step in job.steps] == ["equalize", "calibrate", "allocate", "correct_bias"]
    assert job.steps[2].options.bytes == 0.3
    assert [step.method for step in planned(more).steps] == ["equalize", "calibrate", "correct_bias"]


def test_the_budget_steers_the_step_that_is_there(planned):
    own = ALLOCATED.replace("[calibrate]", "[calibrate, allocate: {widths: [4, 8], bytes: 0.5}]")
    assert planned(own).steps[1].options.bytes == 0.5
    options = planned(own, "budget.bytes=0.4").steps[1].options
    assert (options.bytes, options.cosine_mean, options.widths) == (0.4, None, (4, 8))
    job = planned(own, "budget.cosine_mean=0.98")
    assert [step.method for step in job.steps] == ["calibrate", "allocate"]
    assert (job.steps[1].options.bytes, job.steps[1].options.cosine_mean) == (None, 0.98)


@pytest.mark.parametrize("value", ["0", "1", "1.5", "-0.1", "yes", "'0.2'", ".nan"])
def test_a_budget_that_is_no_share_of_the_float_file_is_refused(planned, value):
    with pytest.raises(RecipeError, match="budget.bytes"):
        planned(ALLOCATED, f"budget.bytes={value}")


@pytest.mark.parametrize(
    ("backends", "steps", "sets", "said"),
    [
        ("onnx-x86", "[calibrate]", ["budget.bytes=0.3"], "--backend onnx-packed"),
        ("onnx-packed-x86", "[calibrate]", ["budget.bytes=0.3", "budget.cosine_mean=0.9"], "not for both"),
        ("onnx-packed-x86", "[calibrate, allocate, allocate]", ["budget.bytes=0.3"], "once"),
        ("onnx-packed-x86", "[allocate, calibrate]", ["budget.bytes=0.3"], "calibrate step before"),
        ("onnx-packed-x86", "[equalize]", ["budget.bytes=0.3"], "calibrate step before"),
        ("onnx-packed-x86", "[calibrate, allocate]", [], "needs a budget"),
    ],
)
def test_budgets_of_bytes_that_make_no_sense_are_refused(planned, backends, steps, sets, said):
    text = RECIPE.replace("onnx-x86, torch-x86", backends).replace("[calibrate]", steps)
    with pytest.raises(RecipeError) as raised:
        planned(text, *sets)
    assert said in str(raised.value)


def test_bytes_that_no_widths_reach_are_refused_before_any_work(planned):
    with pytest.raises(RecipeError, match=r"0\.001 of float.onnx is out of reach: all weights in 2 bits"):
        planned(ALLOCATED, "budget.bytes=0.001")
    narrow = ALLOCATED.replace("[calibrate]", "[calibrate, allocate: {widths: [6]}]")
    planned(ALLOCATED, "budget.bytes=0.03")
    with pytest.raises(RecipeError, match="all weights in 6 bits"):
        planned(narrow, "budget.bytes=0.03")


@pytest.mark.slow
def test_a_file_is_as_small_as_wanted_and_the_report_says_how(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "RECIPE", ALLOCATED)
    free = compressed(checkpoint, tmp_path).report.artifacts
    whole, eight = (next(one.size_bytes for one in free if one.name == name) for name in ("float.onnx", PACKED))
    (tmp_path / "out").rename(tmp_path / "free")
    wanted = round(0.8 * eight / whole, 3)
    found = compressed(checkpoint, tmp_path, f"budget.bytes={wanted}")
    block, size = found.report.allocation, (found.out / PACKED).stat().st_size
    assert 0.95 * wanted < size / whole <= wanted
    assert block.files == {PACKED: size} and block.bytes_wanted == wanted
    model = load_quantized(found.out / "quantization.json", found.out / "model.safetensors")
    assert {one.name: one.bits for one in block.layers} == {
        one.name: model.scheme.weight_bits(one.name) for one in block.layers
    }
    assert len({one.bits for one in block.layers}) > 1
    assert "## Widths of weights" in to_markdown(found.report)
    again = pipeline.export(found.out, "onnx-packed-x86", name="again.onnx")
    assert again.read_bytes() == (found.out / PACKED).read_bytes()


@pytest.mark.slow
def test_a_job_stopped_behind_the_allocation_goes_on_to_the_same_files(checkpoint, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    (tmp_path / "mine.yaml").write_text(ALLOCATED)
    measure_quickly(monkeypatch)
    job = pipeline.plan_job(checkpoint, recipe=str(tmp_path / "mine.yaml"), sets=["budget.bytes=0.5"])
    straight = pipeline.run_job(job, tmp_path / "straight")
    with monkeypatch.context() as patch:
        patch.setattr("qface_toolkit.backends._float_files.export_float", stop)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run_job(job, tmp_path / "stopped")
    resumed = pipeline.run_job(job, tmp_path / "stopped", resume=True)
    assert resumed.allocation == straight.allocation and straight.allocation is not None
    for name in (PACKED, "quantization.json", "model.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


@pytest.mark.slow
def test_a_budget_a_little_below_the_widest_file_is_filled(checkpoint, tmp_path, monkeypatch):
    """The bytes of a layer are estimates, by which the widest file seems to fit."""
    monkeypatch.setattr(sys.modules[__name__], "RECIPE", ALLOCATED)

    def packed(share):
        folder = tmp_path / f"{share}"
        folder.mkdir()
        made = compressed(checkpoint, folder, f"budget.bytes={share}").report.artifacts
        return next(one for one in made if one.quantized)

    widest = packed(0.9)
    assert widest.weight_bits_mean == 8
    narrower = packed(round(widest.size_ratio, 4))
    assert 7 < narrower.weight_bits_mean < 8 and narrower.size_ratio > 0.9 * widest.size_ratio


@pytest.mark.slow
def test_a_file_that_later_steps_made_too_large_is_refused(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "RECIPE", ALLOCATED)
    monkeypatch.setattr(allocate, "MARGIN", -0.1)
    monkeypatch.setattr(allocate, "MARGIN_BITS", -64)
    with pytest.raises(RecipeError, match=r"packed.x86.onnx takes 0\.\d+ of float.onnx, and the budget is") as raised:
        compressed(checkpoint, tmp_path, "budget.bytes=0.5")
    assert "--set budget.bytes=0.4" in str(raised.value)
