"""A wanted speed, from the recipe to the check: what is refused, what is missed, and what every page says of it."""

import pytest
from helpers import measure_quickly
from test_budget import RECIPE
from torch import nn

from qface_toolkit import pipeline
from qface_toolkit.canonical.edit import ensure_shapes
from qface_toolkit.errors import RecipeError
from qface_toolkit.pipeline._speed import DOUBT

SETS = ("model.input_size=[32, 32]", "model.mean=127.5", "model.std=127.5", "model.color=rgb")


@pytest.fixture
def planned(planned):
    """Return a function that plans a job by settings alone."""
    return lambda *sets, recipe=RECIPE: planned(recipe, *sets)


def test_a_job_knows_what_its_file_should_take(planned):
    found = pipeline.expect(planned())
    assert found.artifact == "int8.x86.onnx"
    assert 0.01 < found.integer_ms < 10 and 0.01 < found.float_ms < 10
    assert found.times_faster == pytest.approx(found.float_ms / found.integer_ms)
    assert found.short_of(1e6) and set(found.short_of(1e6)) <= set(found.integer_us)


def test_what_no_form_reaches_is_refused_before_any_work(planned):
    reach = pipeline.expect(planned()).times_faster
    with pytest.raises(RecipeError) as refused:
        planned(f"budget.times_faster={reach * DOUBT * 1.1:.2f}")
    error = refused.value
    assert error.where == "budget.times_faster"
    assert f"predicts {reach:.2f} times" in error.what and "It fails at " in error.what
    assert f"budget.times_faster={reach:.1f}" in error.fix
    named = error.what.partition("It fails at ")[2].split(" (")[0]
    assert named in pipeline.expect(planned()).integer_us, "a layer of the network"
    assert planned(f"budget.times_faster={reach * 0.9:.2f}")


@pytest.mark.parametrize("backend", ["torch-x86", "openvino"])
def test_what_cannot_be_compared_is_refused(planned, backend):
    recipe = RECIPE.replace("[onnx-x86, torch-x86]", f"[{backend}, onnx-x86]")
    with pytest.raises(RecipeError, match="cannot be compared with float.fast.onnx"):
        planned("budget.times_faster=1", recipe=recipe)


@pytest.mark.parametrize("value", ["0", "-1", "fast", "1000", ".nan"])
def test_what_is_no_speed_is_refused(planned, value):
    with pytest.raises(RecipeError, match=r"budget\.times_faster"):
        planned(f"budget.times_faster={value}")


@pytest.mark.slow
def test_the_report_puts_the_prediction_beside_the_measurement(planned, tmp_path, monkeypatch):
    measure_quickly(monkeypatch)
    job = planned()
    report = pipeline.run_job(job, tmp_path / "out")
    figures = {one.name: one for one in report.artifacts}
    for name in ("int8.x86.onnx", "float.fast.onnx"):
        assert 0.005 < figures[name].predicted_ms < 10, name
    layers = figures["int8.x86.onnx"].cost.layers
    assert sum(layer.predicted_ms or 0 for layer in layers) == pytest.approx(
        figures["int8.x86.onnx"].predicted_ms, rel=0.2
    )
    floats = sum(layer.float_ms or 0 for layer in layers)
    assert floats == pytest.approx(figures["float.fast.onnx"].cost.time_ms, rel=0.2)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The table of operator times predicts" in page and "in float.fast.onnx" in page
    ensure_shapes(job.canonical, job.model.spec.input_size, job.model.spec.channels)
    found = pipeline.layers_beside_float(tmp_path / "out", pipeline.inspect(tmp_path / "out"))
    assert set(found) == {"int8.x86.onnx"}
    assert [one.name for one in found["int8.x86.onnx"].layers] == [one.name for one in layers]
    assert pipeline.layers_beside_float(tmp_path / "out" / "int8.x86.onnx", {}) == {}


def test_odd_geometries_have_a_time(checkpoint):
    network = nn.Sequential(
        nn.Conv2d(3, 12, (1, 1), (1, 2)),
        nn.PReLU(12),
        nn.Conv2d(12, 12, (1, 5), (2, 1), (0, 2), groups=12),
        nn.PReLU(12),
        nn.Conv2d(12, 8, 3, padding=2, dilation=2, groups=4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 256, 16),
    )
    found = pipeline.expect(pipeline.plan_job(network.eval(), backends=["onnx-x86"], sets=SETS))
    assert 0 < found.integer_ms < 10 and 0 < found.float_ms < 10
