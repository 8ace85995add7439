"""QuantFace's rule: its formulas by an independent account of them, its places, its training, and its file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_network
from pydantic import ValidationError
from quantized import cosines, run, small_network, smooth_images
from safetensors.torch import load, save
from torch import nn

from qface_toolkit.errors import ArtifactError, CalibrationError, UnsupportedModel
from qface_toolkit.methods import METHODS, Context, Source
from qface_toolkit.methods._imitation import Course, lessons_of, mean_cosine, show, train
from qface_toolkit.models import ARCHITECTURES, FloatModel, ModelSpec
from qface_toolkit.quantize import simulated as simulated_files
from qface_toolkit.quantize.quantface import (
    ActivationGrid,
    RoundedLayer,
    fake_quantize,
    grids,
    open_ranges,
    prelu,
    round_weight,
    rounded,
    rounded_layers,
    traced,
    with_grids,
)
from qface_toolkit.quantize.simulated import KEY, file_bytes, is_simulation, load_simulation, simulation_bytes
from qface_toolkit.quantize.structure import network_of, structure_of
from qface_toolkit.quantize.target import ONNX

METHOD = METHODS.get("quantface")
SIZE = (32, 32)


def by_hand(x, low, high, bits):
    """Return what the published formula makes of float32 numbers, one after the other, in numpy."""
    low, high = np.float32(low), np.float32(high)
    scale = np.float32(2**bits - 1) / np.maximum(high - low, np.float32(1e-8))
    zero = np.rint(scale * low) + np.float32(2 ** (bits - 1))
    codes = np.clip(np.rint(scale * x - zero), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (codes + zero) / scale


@pytest.mark.parametrize(
    "low, high, bits, given, expected",
    [
        (0.0, 255.0, 8, [0.0, 1.4, 1.6, 255.0, 300.0, -3.0], [0.0, 1.0, 2.0, 255.0, 255.0, 0.0]),
        (-1.0, 2.0, 2, [-1.0, -0.4, 0.6, 1.4, 9.0], [-1.0, 0.0, 1.0, 1.0, 2.0]),
        (-2.0, 61.0, 6, [-2.0, 0.4, 60.7, 70.0], [-2.0, 0.0, 61.0, 61.0]),
    ],
)
def test_the_published_grid_in_round_numbers(low, high, bits, given, expected):
    assert rounded(torch.tensor(given), torch.tensor(low), torch.tensor(high), bits).tolist() == expected


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("low, high", [(-1.3, 2.7), (0.0, 5.1), (-0.4, 0.0), (0.2, 0.9), (0.5, 0.5)])
def test_the_published_grid_number_by_number(bits, low, high):
    x = np.random.default_rng(bits).uniform(low - 0.5, high + 0.5, 999).astype(np.float32)
    found = rounded(torch.from_numpy(x), torch.tensor(low), torch.tensor(high), bits).numpy()
    assert (found == by_hand(x, low, high, bits)).all()
    assert len(np.unique(found)) <= 2**bits


@pytest.mark.parametrize("shape", [(6, 3, 3, 3), (4, 7), (5,)])
def test_weights_have_a_grid_a_channel_and_slopes_one_in_all(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    rows = weight.numpy() if len(shape) > 1 else weight.numpy()[None]
    expected = np.stack([by_hand(row, row.min(), row.max(), 4) for row in rows]).reshape(shape)
    assert (round_weight(weight, 4).numpy() == expected).all()


@pytest.mark.parametrize("in_place", [True, False])
def test_gradients_pass_whatever_the_range(in_place):
    x = torch.tensor([-9.0, 0.3, 9.0], requires_grad=True)
    fake_quantize(x * 1, torch.tensor(0.0), torch.tensor(1.0), 8, in_place=in_place).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("slopes", [1, 5])
@pytest.mark.parametrize("shape", [(3, 5, 4, 2), (3, 5)])
def test_prelu_and_its_gradients_are_those_of_torch(slopes, shape):
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(shape, generator=draw), torch.randn(slopes, generator=draw)
    x[0, 0] = 0.0
    found = []
    for function in (prelu, nn.functional.prelu):
        inputs = [tensor.clone().requires_grad_() for tensor in (x, weight)]
        out = function(*inputs)
        (out * torch.arange(out.numel()).reshape(shape)).sum().backward()
        found.append((out, *(one.grad for one in inputs)))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_ranges_hold_zero_never_shrink_and_stay_when_closed():
    grid = ActivationGrid(8)
    for values in ([2.0, 3.0], [-1.0, 1.0]):
        grid(torch.tensor(values))
    assert (float(grid.low), float(grid.high)) == (-1.0, 3.0)
    open_ranges(grid, opened=False)
    assert float(grid(torch.tensor([50.0]))) == pytest.approx(3.0, abs=0.02)
    assert float(grid.high) == 3.0


# Counted in the published module definitions (QuantFace, ICPR 2022): activation quantizers of each network.
COUNTS = [("mobilefacenet", 45), ("iresnet18", 17), ("iresnet50", 49), ("iresnet100", 99)]


@pytest.mark.parametrize("name, count", COUNTS)
def test_grids_stand_where_the_published_rule_has_them(name, count):
    with torch.device("meta"):
        network = ARCHITECTURES.get(name).published.build()
    student = with_grids(network, 6, 4)
    assert len(list(grids(student))) == count
    layers = [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.Linear | nn.PReLU)]
    found = list(rounded_layers(student))
    assert len(found) == len(layers)
    assert all(one.bits == (4 if isinstance(one.layer, nn.PReLU) else 6) for one in found)
    norms = sum(isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d) for one in network.modules())
    assert sum(isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d) for one in student.modules()) == norms > 0


BEYOND = ("edgeface", "ghostfacenet-v2")
"""They have attention, norms and resizing, which QuantFace's rule does not know."""


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES.names() if name.startswith(BEYOND)])
def test_an_architecture_of_other_operations_is_refused_by_their_names(name):
    with torch.device("meta"):
        network = traced(ARCHITECTURES.get(name).published.build())
    with pytest.raises(UnsupportedModel, match=r"layer_norm|interpolate"):
        structure_of(network)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES.names() if not name.startswith(BEYOND)])
def test_every_architecture_can_be_written_down(name):
    with torch.device("meta"):
        network = traced(ARCHITECTURES.get(name).published.build())
    again = network_of(json.loads(json.dumps(structure_of(network))))
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in network.state_dict().items()
    }
    assert structure_of(again) == structure_of(network)


def test_a_network_that_is_written_down_computes_the_same():
    network, size = small_network("pocketnet")
    again = network_of(json.loads(json.dumps(structure_of(traced(network)))))
    again.load_state_dict(network.state_dict(), assign=True)
    images = smooth_images(size, count=2)
    assert (run(again.eval(), images) == run(network, images)).all()


class Odd(nn.Module):
    def forward(self, x):
        return torch.fft.fft(x.flatten(1)).real


def test_what_cannot_be_written_down_is_named():
    with pytest.raises(UnsupportedModel, match="fft"):
        structure_of(traced(Odd()))


def parts(count=24):
    network, size = small_network("iresnet")
    return network, torch.from_numpy(smooth_images(size, count))


def test_a_course_opens_ranges_for_the_published_share_of_its_steps():
    shares = [Course(steps, 32, 0.1, False, 0).open_steps for steps in (1, 100, 11_350)]
    assert shares == [1, 3, 299]
    assert Course(100, 32, 0.1, True, 0).open_steps == 0


def test_training_as_published_moves_statistics_and_closes_ranges():
    network, inputs = parts()
    lessons, student = lessons_of(network, inputs, 8), with_grids(network, 8, 8)
    norm = next(one for one in student.modules() if isinstance(one, nn.BatchNorm2d))
    before = norm.running_mean.clone()
    course = Course(60, 8, 0.1, False, 0)
    opened = [any(grid.is_open for grid in grids(student)) for _ in train(student, lessons, course)]
    assert opened == [True] * 2 + [False] * 58
    assert not torch.equal(norm.running_mean, before)


def test_a_calibrated_start_keeps_statistics_and_ranges():
    network, inputs = parts()
    lessons, student = lessons_of(network, inputs, 8), with_grids(network, 8, 8)
    show(student, inputs, 8)
    kept = {key: value.clone() for key, value in student.state_dict().items() if "running" in key or "grid" in key}
    list(train(student, lessons, Course(3, 8, 0.1, True, 0)))
    after = student.state_dict()
    assert len(kept) > 4 and all(torch.equal(after[key], value) for key, value in kept.items())


def test_the_teacher_is_asked_of_mirrored_images_too():
    network, inputs = parts(8)
    lessons = lessons_of(network, inputs, 8)
    for images, wanted in lessons.batches(2, 8, 0):
        found = nn.functional.normalize(torch.from_numpy(run(network, images.contiguous().numpy())))
        assert torch.allclose(found, wanted, atol=1e-5)


def test_the_rate_falls_in_the_last_eleventh(monkeypatch):
    network, inputs = parts(8)
    rates = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            assert [self.defaults[key] for key in ("momentum", "weight_decay", "nesterov")] == [0.9, 5e-4, True]

    monkeypatch.setattr(torch.optim, "SGD", Watched)
    list(train(with_grids(network, 8, 8), lessons_of(network, inputs, 8), Course(22, 8, 0.5, False, 0)))
    assert rates == pytest.approx([0.5] * 20 + [0.05] * 2)


@pytest.fixture(scope="module")
def source():
    return FloatModel(tiny_network(), ModelSpec("tiny", (112, 96), 32), "0" * 64)


@pytest.fixture(scope="module")
def images(source):
    return smooth_images(source.spec.input_size, 24)


def simulated(source, images, seed=0, **options):
    given = {"weight_bits": 4, "activation_bits": 6, "steps": 6, "batch_size": 8, "looks": 2, "held_out_share": 0.34}
    told = []
    context = Context(images, ONNX, seed, 8, lambda *done: told.append(done), (Source(source),))
    return METHOD.run(None, METHOD.options(**given | options), context), told


@pytest.fixture(scope="module")
def made(source, images):
    return simulated(source, images)


def test_the_best_look_is_kept_and_all_are_told(made, source, images):
    model, told = made
    looks = [(one["start"], one["rate"], one["steps"]) for one in model.trace]
    assert looks == [("calibrated", 0.0, 0)] + [
        (start, rate, steps) for start in ("calibrated", "published") for rate in (0.1, 0.01) for steps in (3, 6)
    ]
    best = max(one["cosine_heldout"] for one in model.trace)
    held_out = images[-8:]
    assert cosines(model.embed(held_out), run(source.network, held_out)).mean() == pytest.approx(best, abs=1e-5)
    assert f"{best:.4f} on 8 held-out images, the best of 9 looks" in model.chosen[0]
    assert told[-1] == (24, 24)


def test_training_brings_the_embedding_nearer():
    network, inputs = parts()
    lessons, student = lessons_of(network, inputs, 8), with_grids(network, 4, 6)
    show(student, inputs, 8)
    before = mean_cosine(student, lessons, 8)
    list(train(student, lessons, Course(30, 8, 0.03, True, 0)))
    after = mean_cosine(student, lessons, 8)
    assert 1 - after < 0.5 * (1 - before), f"mean cosine {before:.5f} before, {after:.5f} after"


def test_without_steps_there_is_only_calibration(source, images):
    model, _ = simulated(source, images, steps=0)
    assert len(model.trace) == 1 and "no training" in model.chosen[0]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(made, source, images):
    again, _ = simulated(source, images)
    assert simulation_bytes(again, {}) == simulation_bytes(made[0], {})


def test_the_file_alone_computes_the_same(made, images, tmp_path):
    file = tmp_path / "simulation.safetensors"
    file.write_bytes(simulation_bytes(made[0], {"qface.model": "tiny"}))
    loaded = load_simulation(file)
    assert is_simulation(file)
    assert np.abs(loaded.embed(images) - made[0].embed(images)).max() < 1e-5
    assert (loaded.spec, loaded.chosen, loaded.trace) == (made[0].spec, made[0].chosen, made[0].trace)
    assert (loaded.weight_bits, loaded.activation_bits) == (4, 6)
    assert all(len(layer.layer.weight[0].unique()) > 0 for layer in rounded_layers(loaded.network))


def a_weight(tensors):
    """Return the name of a weight: a file's tensors come in any order, and counters are not missed."""
    return min(name for name in tensors if name.endswith(".weight"))


DAMAGE = {
    "other bits": lambda told, tensors: told.update(weight_bits=9),
    "a stranger's call": lambda told, tensors: told["structure"][1].update(op="call_function", target="os.system"),
    "a stranger's method": lambda told, tensors: told["structure"][1].update(op="call_method", target="__reduce__"),
    "a stranger's module": lambda told, tensors: told["structure"][1].update(module="Bilinear"),
    "a program as a name": lambda told, tensors: told["structure"][1].update(name="x=print(1)"),
    "a program as a path": lambda told, tensors: told["structure"][1].update(target='a"), print(1), getattr(self, "a'),
    "a program as an option": lambda told, tensors: told["structure"][1].update(kwargs={"dict": {"a=print(1), b": 1}}),
    "a program as an input": lambda told, tensors: told["structure"][0].update(target="x=print(1)"),
    "a huge layer": lambda told, tensors: told["structure"][1]["options"].update(padding={"tuple": [9999, 9999]}),
    "no structure": lambda told, tensors: told.update(structure=[]),
    "a weight less": lambda told, tensors: tensors.pop(a_weight(tensors)),
    "no number": lambda told, tensors: tensors[a_weight(tensors)].fill_(float("nan")),
    "another embedding": lambda told, tensors: told["spec"].update(embedding_size=7),
    "a huge picture": lambda told, tensors: told["spec"].update(input_size=[9999, 96]),
    "another kind": lambda told, tensors: told.update(kind="other"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_refused(name, made, tmp_path):
    data = simulation_bytes(made[0], {})
    tensors = {key: tensor.clone() for key, tensor in load(data).items()}
    told = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"][KEY])
    DAMAGE[name](told, tensors)
    file = Path(tmp_path / "simulation.safetensors")
    file.write_bytes(file_bytes(tensors, told))
    with pytest.raises(ArtifactError):
        load_simulation(file)


def test_float_weights_are_no_simulation(tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(save({"weight": torch.zeros(2)}))
    assert not is_simulation(file)
    with pytest.raises(ArtifactError, match="no simulation"):
        load_simulation(file)


def test_a_file_of_too_much_work_is_refused_before_it_runs(made, tmp_path, monkeypatch):
    file = tmp_path / "simulation.safetensors"
    file.write_bytes(simulation_bytes(made[0], {}))
    load_simulation(file)
    monkeypatch.setattr(simulated_files, "_MOST_OPERATIONS", 1000)
    with pytest.raises(ArtifactError, match="would take more than 1e.03 operations"):
        load_simulation(file)


@pytest.mark.parametrize("value", [1, 9, 16, 6.0, "6"])
@pytest.mark.parametrize("option", ["weight_bits", "activation_bits"])
def test_widths_outside_two_to_eight_are_refused(option, value):
    with pytest.raises(ValidationError):
        METHOD.options(**{option: value})


def test_too_few_images_are_refused(source, images):
    with pytest.raises(CalibrationError, match="too few"):
        simulated(source, images[:8])


def test_dropout_works_in_training_alone():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 4))
    student = with_grids(network, 8, 8)
    x = torch.ones(1, 12)
    student.train()
    assert not torch.equal(student(x), student(x))
    student.eval()
    assert torch.equal(student(x), student(x))
    assert isinstance(student.get_submodule("2"), RoundedLayer)


def test_scoring_leaves_a_student_as_it_was():
    network, inputs = parts(8)
    student = with_grids(network, 8, 8).train()
    before = {key: value.clone() for key, value in student.state_dict().items()}
    score = mean_cosine(student, lessons_of(network, inputs, 8), 8)
    assert -1 <= score <= 1 and student.training and all(grid.is_open for grid in grids(student))
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())
