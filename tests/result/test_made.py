"""Both kinds of models answer every question that a job asks of one, and are what a stopped job left of them."""

import json
from dataclasses import replace

import pytest
import torch
from helpers import tiny_network
from quantized import small_model, smooth_images

from qface_toolkit.backends import BACKENDS
from qface_toolkit.errors import MeasurementError
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.quantface import open_ranges, traced, with_grids
from qface_toolkit.quantize.simulated import SimulatedModel
from qface_toolkit.quantize.structure import structure_of
from qface_toolkit.quantize.target import ONNX
from qface_toolkit.result.lowered import Lowered
from qface_toolkit.result.made import FLOAT_BITS, Made
from qface_toolkit.result.simulated import TRACE, Simulated
from qface_toolkit.sources import draw

SIMULATION = BACKENDS.get("simulation")
FACTS = {"qface.model": "tiny"}


def simulation():
    graph, spec = traced(tiny_network()), ModelSpec("tiny", (112, 96), 32)
    network = with_grids(graph, 6, 6).eval()
    network(torch.from_numpy(smooth_images(spec.input_size, 2)))
    open_ranges(network, opened=False)
    return Simulated.of(SimulatedModel(network, structure_of(graph), spec, 6, 6, ("this one",)), FACTS)


@pytest.fixture(scope="module", params=["lowered", "simulated"])
def made(request):
    return simulation() if request.param == "simulated" else Lowered.of(small_model("mobilefacenet"), FACTS)


@pytest.fixture(scope="module")
def inputs(made):
    return smooth_images(made.model.spec.input_size, 2)


def plain(files):
    return {name: json.loads(content) if name.endswith(".json") else content for name, content in files.items()}


def test_what_was_tried_is_told_in_the_order_of_the_step():
    model, tried = simulation().model, {"start": "calibrated", "rate": 0.0, "cosine_heldout": 0.5}
    trace = Simulated.of(replace(model, trace=(tried,)), FACTS).step_files(0)[TRACE]
    assert list(json.loads(trace)[0]) == [*tried]


def test_a_stopped_job_reads_the_same_back(made, inputs, tmp_path):
    for name, content in made.step_files(3).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    again = type(made).read(3, lambda name: tmp_path / name, FACTS)
    golden, expected = again.golden(SIMULATION, inputs), made.golden(SIMULATION, inputs)
    assert golden.keys() == expected.keys() == {SIMULATION.artifact, f"{SIMULATION.artifact}@about"}
    assert (golden[SIMULATION.artifact] == expected[SIMULATION.artifact]).all()
    assert plain(again.step_files(3)) == plain(made.step_files(3))
    assert (again.chosen, again.choices, again.kept) == (made.chosen, made.choices, made.kept)


def test_every_parameter_is_counted_at_its_width(made):
    total = sum(count for count, _ in made.parameters(None))
    assert {bits for _, bits in made.parameters(None)} == {FLOAT_BITS}
    assert sum(count for count, _ in made.parameters(ONNX)) == total
    assert {bits for _, bits in made.parameters(ONNX)} < {6, 8}
    coded, floats = made.coded(ONNX)
    assert 0 < sum(one.numbers for one in coded) < total and floats > 0


def test_only_a_model_that_backends_lower_has_files_to_write(made):
    written = dict(made.artifacts(["simulation"]))
    assert written.keys() == ({SIMULATION.artifact} if made.source_files() else set())
    assert all(content() for content in written.values())


def test_what_lies_inside_is_compared_or_said_to_be_missing(made, inputs, tmp_path):
    inside = made.tensors(ONNX, inputs)
    assert bool(inside) == (made.simulated(ONNX, inputs) is not None)
    assert bool(inside) == (made.sensitivity(ONNX, draw("drawings-heldout", 2), (1, 2), 1e12) is not None)
    with pytest.raises(MeasurementError, match="no program with codes inside"):
        made.differing_codes(SIMULATION, tmp_path / SIMULATION.artifact, inputs)


def test_layers_that_are_kept_can_be_given_back(made):
    fewer = made.keeping(0)
    assert isinstance(fewer, Made) and fewer.kept == ()


def test_the_first_of_the_kept_layers_stay():
    model = small_model("mobilefacenet")
    layers = [node.name for node in model.network.graph.nodes if node.op == "call_module"][:1]
    made = Lowered(model.with_kept(layers), FACTS)
    assert (made.kept, made.keeping(1).kept, made.keeping(0).kept) == (tuple(layers), tuple(layers), ())
