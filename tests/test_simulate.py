"""A recipe that simulates, from the command to the report: no file that runs, and everything else as of others."""

import json

import numpy as np
import pytest
import torch
from finished_folders import intact
from helpers import SMALL_SETS, run_here, tiny_network

import qface_toolkit as qf
from qface_toolkit import pipeline
from qface_toolkit.errors import ArtifactError, RecipeError
from qface_toolkit.evaluation.synthetic import synthetic_people
from qface_toolkit.models import ModelSpec
from qface_toolkit.pipeline import _evaluate
from qface_toolkit.quantize.simulated import load_simulation
from qface_toolkit.recipe import list_recipes
from qface_toolkit.result.opening import Wanted, open_embedder

SETS = [
    "calibration.count=24",
    "steps.0.steps=4",
    "steps.0.batch_size=8",
    "steps.0.looks=2",
    "steps.0.held_out_share=0.34",
]
FILES = {
    "float.onnx",
    "float.fast.onnx",
    "simulation.safetensors",
    "trace.json",
    "golden.npz",
    "calibration.png",
    "report.json",
    "report.md",
    "report.html",
    "model_card.md",
    "manifest.json",
    "verify.py",
}


pytestmark = pytest.mark.usefixtures("measured_quickly")


@pytest.fixture(scope="module")
def result(checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("job") / "out"
    qf.compress(checkpoint, out=out, recipe="quantface-w6a6", sets=SETS)
    return out


@pytest.fixture(scope="module")
def beside(checkpoint, tmp_path_factory):
    """Return a result of ours that has a file for a runtime and the simulation of the same model."""
    out = tmp_path_factory.mktemp("beside") / "out"
    qf.compress(checkpoint, out=out, recipe="int8-fast", sets=SMALL_SETS, backends=["onnx-x86", "simulation"])
    return out


def figures_of(out):
    (figures,) = (one for one in qf.read_report(out / "report.json").artifacts if one.runtime == "simulation")
    return figures


def test_folder_holds_these_files_and_nothing_else(result):
    assert {path.name for path in result.iterdir()} == FILES
    assert set(intact(result).files) == FILES - {"manifest.json"}


def test_the_recipes_differ_in_their_widths_alone():
    assert {"quantface-w6a6", "quantface-w8a8"} <= list_recipes().keys()
    six, eight = (pipeline.read_full_recipe(f"quantface-w{bits}a{bits}") for bits in (6, 8))
    (options,) = (step.pop("quantface") for step in six["steps"])
    (others,) = (step.pop("quantface") for step in eight["steps"])
    assert six == eight
    assert {key for key in options if options[key] != others[key]} == {"weight_bits", "activation_bits"}
    assert (options["weight_bits"], options["activation_bits"]) == (6, 6)
    assert 0.1 in options["rates"] and {"published", "calibrated"} == set(options["starts"])


def test_the_report_says_what_was_chosen_and_measured(result):
    report, figures = qf.read_report(result / "report.json"), figures_of(result)
    trace = json.loads((result / "trace.json").read_text())
    best = max(one["cosine_heldout"] for one in trace)
    assert len(trace) == 9 and f"{best:.4f} on 8 held-out images" in report.recipe.chosen[0]
    assert figures.latency is None and figures.latency_missing == "a simulation; its speed says nothing"
    assert figures.agreement.cosine_mean > 0.5 and figures.simulation_agreement is None
    assert report.sensitivity is None and report.parity.layers is None
    assert "simulation" in report.parity.codes[0].not_compared
    for page in ("report.md", "report.html"):
        text = (result / page).read_text()
        assert "its speed says nothing" in text and "held-out images" in text
        assert page != "report.md" or "qface evaluate 'simulation.safetensors'" in text
        assert "convolutions run" not in text and "convolution runs" not in text


def test_the_model_card_calls_it_what_it_is(result):
    card = (result / "model_card.md").read_text()
    assert "simulated\n" in card and "int8" not in card and "library_name: pytorch" in card


def test_sizes_are_those_of_codes_nominal_and_packed(result):
    """Counted here once more, from the network itself."""
    figures, network, bits = figures_of(result), tiny_network(), 6
    parameters = sum(one.numel() for one in network.parameters())
    assert figures.nominal_bytes == -(-parameters * bits // 8)
    packed = 0
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            grids = len(module.weight)
            packed += -(-(module.weight.numel() + grids) * bits // 8) + 4 * grids
        elif isinstance(module, torch.nn.PReLU):
            packed += -(-(module.weight.numel() + 1) * bits // 8) + 4
        elif isinstance(module, torch.nn.BatchNorm2d):
            packed += 4 * 4 * module.num_features
    ranges = (
        2
        * 4
        * sum(
            1
            for name in load_simulation(result / "simulation.safetensors").network.state_dict()
            if name.endswith(".high")
        )
    )
    assert figures.payload_bytes == packed + ranges
    assert figures.nominal_bytes < figures.payload_bytes < figures.size_bytes
    assert figures.size_bytes == (result / "simulation.safetensors").stat().st_size


def test_golden_vectors_are_those_of_the_file(result):
    found = pipeline.verify(result)
    assert found.trustworthy
    assert {file.name: file.verdict for file in found.files}["simulation.safetensors"] == "exact"


@pytest.mark.slow
def test_a_stopped_job_goes_on_to_the_same_files(result, checkpoint, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("qface_toolkit.backends._float_files.export_float", stop)
        with pytest.raises(KeyboardInterrupt):
            qf.compress(checkpoint, out=tmp_path / "out", recipe="quantface-w6a6", sets=SETS)
    qf.compress(checkpoint, out=tmp_path / "out", recipe="quantface-w6a6", sets=SETS, resume=True)
    for name in ("simulation.safetensors", "trace.json", "golden.npz", "float.onnx"):
        assert (tmp_path / "out" / name).read_bytes() == (result / name).read_bytes()


@pytest.mark.slow
def test_the_file_alone_can_be_evaluated(result, monkeypatch, capsys, tmp_path):
    run = open_embedder(result / "simulation.safetensors", Wanted({}))
    golden = np.load(result / "golden.npz")
    assert (run.run(golden["inputs"]) == golden["simulation.safetensors"]).all()
    assert (run.spec.input_size, run.spec.embedding_size) == ((112, 96), 32)
    monkeypatch.setattr(_evaluate, "synthetic_people", lambda: synthetic_people(12, 3))
    files = (result / "simulation.safetensors", "--reference", result / "float.onnx")
    options = ("--synthetic", "--quiet", "--draws", "20", "--out", tmp_path / "found")
    code, out, _ = run_here(monkeypatch, capsys, "evaluate", *files, *options)
    assert code == 0 and "simulation.safetensors" in out


@pytest.mark.slow
def test_ours_has_a_simulation_beside_its_files(beside):
    figures, report = figures_of(beside), qf.read_report(beside / "report.json")
    assert figures.simulation_agreement.cosine_min > 0.999999
    first = next(one for one in report.artifacts if one.name == "int8.x86.onnx")
    assert figures.nominal_bytes == first.nominal_bytes < figures.payload_bytes < figures.size_bytes
    assert report.parity.layers is not None and report.sensitivity is not None
    assert pipeline.verify(beside).trustworthy
    run, spec = open_embedder(beside / "simulation.safetensors", Wanted({})), report.source.spec
    assert isinstance(run.spec, ModelSpec) and run.spec.mean == spec.mean


@pytest.mark.parametrize(
    "sets, backends, said",
    [
        ([], ["onnx-x86"], "no integer file"),
        (["budget.cosine_mean=0.9"], [], "budget"),
        (["export.input=uint8"], [], "export.input"),
        (["scheme.weights.bits=4"], [], "widths of its own"),
        (["steps.0.weight_bits=9"], [], "weight_bits"),
        (["steps.0.activation_bits=1"], [], "activation_bits"),
    ],
)
def test_what_a_simulation_cannot_be_is_refused_before_any_work(sets, backends, said, checkpoint):
    with pytest.raises(RecipeError, match=said):
        pipeline.plan_job(checkpoint, recipe="quantface-w6a6", sets=sets, backends=backends)


def test_a_step_beside_it_is_refused(checkpoint, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("version: 1\nsteps: [calibrate, quantface]\nbackends: [simulation]\n")
    with pytest.raises(RecipeError, match="one step among others"):
        pipeline.plan_job(checkpoint, recipe=str(recipe))


@pytest.mark.parametrize("ask", [lambda out: pipeline.export(out, backend="onnx-x86"), pipeline.sensitivity])
def test_there_is_nothing_to_lower_or_to_switch(ask, result):
    with pytest.raises(ArtifactError, match="simulation"):
        ask(result)
