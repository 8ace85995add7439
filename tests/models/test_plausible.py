"""A preprocessing on another scale is refused before any work, with what was meant; unusual ones can be insisted on."""

import sys

import numpy as np
import onnx
import pytest
import torch
from helpers import SMALL_SETS, run_here, write_tiny
from onnx import numpy_helper
from onnx_files import export, write
from torch import nn

import qface_toolkit as qf
from qface_toolkit.errors import CheckpointError, RecipeError
from qface_toolkit.models import from_module, load_model
from qface_toolkit.pipeline import plan_job

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
ON_255 = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
MEANT = {
    "torchvision's": ((0.5, 0.5), (127.5, 127.5)),
    "ImageNet's": (IMAGENET, ON_255),
    "pixels brought to 0..1, less a half": ((0.5, 1), (127.5, 255)),
    "a mean of the other scale": ((0.5, 127.5), (127.5, 127.5)),
    "a std of the other scale": ((127.5, 0.5), (127.5, 127.5)),
    "ImageNet's, a std of the other scale": ((ON_255[0], IMAGENET[1]), ON_255),
    "ImageNet's, a mean of the other scale": ((IMAGENET[0], ON_255[1]), ON_255),
    "a factor": ((127.5, 0.0078125), (127.5, 128)),
    "a factor alone": ((0, 1 / 256), (0, 256)),
    "a half and a factor": ((0.5, 1 / 256), (127.5, 256)),
    "an offset": ((1, 127.5), (127.5, 127.5)),
    "an offset of the other sign": ((-127.5, 128), (127.5, 128)),
}
USUAL = [(127.5, 127.5), (127.5, 128), (0, 255), (0, 1), (127.5, 1), ON_255, ([122.782, 117.001, 104.298], 256)]


class Plain(nn.Module):
    """A network that may begin with arithmetic of its own."""

    def __init__(self, before=lambda x: x):
        super().__init__()
        self.before, self.conv = before, nn.Conv2d(3, 4, 3, 2)

    def forward(self, x):
        return self.conv(self.before(x)).mean((2, 3))


def module(mean, std, before=lambda x: x, **options):
    return from_module(Plain(before), input_size=(16, 16), mean=mean, std=std, **options)


@pytest.mark.parametrize("name", MEANT)
def test_another_scale_is_refused_with_what_was_meant(name):
    given, meant = MEANT[name]
    with pytest.raises(CheckpointError) as raised:
        module(*given)
    mean, std = (str(list(one)) if isinstance(one, list) else f"{one:g}" for one in meant)
    assert f"mean {mean}, std {std} (--set " in raised.value.fix
    assert "model.checked=true" in raised.value.fix
    assert module(*meant).spec.std[0] == np.ravel(meant[1])[0]


def test_a_scale_that_nobody_has_is_refused_with_the_usual_ones():
    with pytest.raises(CheckpointError, match="-0.1275 to 0.1275") as raised:
        module(127.5, 1000)
    assert "127.5 or 128" in raised.value.fix


@pytest.mark.parametrize(("mean", "std"), USUAL)
def test_usual_ones_are_taken(mean, std):
    module(mean, std)


def test_who_has_checked_is_believed(tmp_path):
    assert module(0.5, 0.5, checked=True).spec.mean == (0.5, 0.5, 0.5)
    given = {"mean": 0.5, "std": 0.5, "checked": True}
    assert load_model(write_tiny(tmp_path / "w.pth"), overrides=given).spec.std == (0.5, 0.5, 0.5)
    with pytest.raises(RecipeError, match="neither true nor false"):
        load_model(tmp_path / "w.pth", overrides={"checked": "yes"})


MEAN = torch.tensor([123.675, 116.28, 103.53]).reshape(1, 3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).reshape(1, 3, 1, 1)
INSIDE = {
    "subtracts and multiplies": (lambda x: (x - 127.5) * 0.0078125, (0, 1), [(127.5, 128), (0, 255), (127.5, 1)]),
    "ImageNet's": (lambda x: (x - MEAN) / STD, (0, 1), [(127.5, 127.5), (0, 255), ON_255]),
    "ImageNet's, of 0..1": (lambda x: (x - MEAN / 255) / (STD / 255), (0, 255), [(0, 1), ON_255]),
    "doubles what is 0..1": (lambda x: x * 2 - 1, (0, 255), [(0, 1)]),
    "clamps, too": (lambda x: torch.clamp((x - 127.5) / 128, -1, 1), (0, 1), [(127.5, 128)]),
    "turns the colours": (lambda x: (x.flip(1) - 127.5) / 128, (0, 1), [(127.5, 128), (0, 255)]),
}


@pytest.mark.parametrize("name", INSIDE)
def test_a_network_that_prepares_the_image_itself_is_not_given_prepared_ones(name):
    before, right, wrong = INSIDE[name]
    assert module(*right, before).spec
    for given in wrong:
        with pytest.raises(CheckpointError, match="prepares the image itself") as raised:
            module(*given, before)
        assert f"mean {right[0]}, std {right[1]} (" in raised.value.fix
        assert module(*given, before, checked=True).spec


@pytest.mark.parametrize(
    "before",
    [nn.Conv2d(3, 3, 1), nn.AvgPool2d(2), lambda x: nn.functional.conv2d(x, torch.ones(3, 3, 3, 3), padding=1)],
    ids=["layer", "pool", "function"],
)
def test_a_network_that_mixes_pixels_at_once_is_not_judged(before):
    assert module(127.5, 128, before).spec


def test_a_module_that_prepares_the_image_is_planned_with_what_is_given():
    network, size = Plain(lambda x: (x - 127.5) / 128), "model.input_size=[16, 16]"
    with pytest.raises(CheckpointError, match="prepares the image itself"):
        plan_job(network, recipe="int8-fast", sets=[size])
    job = plan_job(network, recipe="int8-fast", sets=[size, "model.mean=0", "model.std=1"])
    assert job.model.spec.std == (1.0, 1.0, 1.0)
    job = plan_job(network, recipe="int8-fast", sets=[size, "model.checked=true"])
    assert job.model.spec.std == (127.5, 127.5, 127.5)


def inside_file(path):
    """Write an ONNX file whose graph subtracts and multiplies constants first."""
    model = onnx.load_from_string(export(Plain(), (16, 16), names=("data", "embedding")))
    for name, value in (("mean", 127.5), ("scale", 1 / 128)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    for one in model.graph.node:
        one.input[:] = ["prepared" if name == "data" else name for name in one.input]
    model.graph.node.insert(0, onnx.helper.make_node("Mul", ["shifted", "scale"], ["prepared"]))
    model.graph.node.insert(0, onnx.helper.make_node("Sub", ["data", "mean"], ["shifted"]))
    return write(path, model)


def test_a_graph_that_prepares_the_image_itself(tmp_path):
    path = inside_file(tmp_path / "sface.onnx")
    with pytest.raises(CheckpointError, match="prepares the image itself") as raised:
        load_model(path, overrides={"mean": 127.5, "std": 128, "color": "bgr"})
    assert "mean 0, std 1" in raised.value.fix
    assert str(path) in raised.value.where
    (warning,) = load_model(path, overrides={"mean": 0, "std": 1, "color": "bgr"}).warnings
    assert "it may expect plain pixels 0..255" in warning


@pytest.mark.parametrize(("mean", "std"), [(0, 1), (127.5, 1), (127.5, 4)])
def test_a_known_network_is_not_fed_values_of_another_size(tmp_path, mean, std):
    path = write_tiny(tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="known to expect: mean 127.5 and std") as raised:
        load_model(path, overrides={"mean": mean, "std": std})
    assert "leave both out" in raised.value.fix
    assert load_model(path, overrides={"mean": 0, "std": 255}).spec.std == (255.0,) * 3
    assert load_model(path, overrides={"mean": mean, "std": std, "checked": True}).spec


def test_every_door_refuses_the_same(tmp_path):
    path, facts = write_tiny(tmp_path / "w.pth"), ["model.mean=0.5", "model.std=0.5"]
    for door in (
        lambda: qf.compress(path, out=tmp_path / "out", sets=[*SMALL_SETS, *facts]),
        lambda: qf.compress(load_model(path), out=tmp_path / "out", sets=[*SMALL_SETS, *facts]),
        lambda: qf.evaluate(path, qf.EvaluationSet(synthetic=True), sets=facts),
        lambda: qf.evaluate(load_model(path), qf.EvaluationSet(synthetic=True), sets=facts),
    ):
        with pytest.raises(CheckpointError, match="pixels are 0 to 255 here"):
            door()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["compress W --out OUT", "evaluate W --synthetic"])
def test_the_command_line_says_so_before_torch_is_imported(command, tmp_path, monkeypatch, capsys):
    path = write_tiny(tmp_path / "w.pth")
    monkeypatch.setitem(sys.modules, "qface_toolkit.pipeline", None)
    args = command.replace("W", str(path)).replace("OUT", str(tmp_path / "out")).split()
    sets = ("--set", "model.mean=[0.485, 0.456, 0.406]", "--set", "model.std=[0.229, 0.224, 0.225]")
    code, _, said = run_here(monkeypatch, capsys, *args, *sets)
    assert code == 1
    assert "mean [123.675, 116.28, 103.53], std [58.395, 57.12, 57.375]" in said
