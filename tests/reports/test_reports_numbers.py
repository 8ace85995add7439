"""Networks whose int8 files came out collapsed or slow elsewhere: what is written here tells images apart as before."""

import numpy as np
import pytest
import torch
from helpers import run_here
from reported import EMBEDDING, FACTS, WIDTH, built, drawn, lived_in, module_rows, node, runtime_rows, saved, tail
from test_reports_modules import Scales
from torch import nn

import qface_toolkit as qf
from qface_toolkit.errors import CheckpointError
from qface_toolkit.models import load_model
from qface_toolkit.result.opening import Wanted, open_embedder

SIZE = (64, 64)
SETS = ["calibration.count=32"]


class Residual(nn.Module):
    """A bottleneck of MobileFaceNet with a residual, whose channels differ by a thousand."""

    def __init__(self, width):
        super().__init__()
        wide = 2 * width
        self.body = nn.Sequential(
            *(nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.PReLU(wide)),
            *(nn.Conv2d(wide, wide, 3, 1, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.PReLU(wide)),
            *(nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width)),
        )

    def forward(self, x):
        """Add what the bottleneck makes."""
        return x + self.body(x)


def mobile(slope=0.25):
    """Return a small MobileFaceNet with residuals and a depthwise convolution over the whole map."""
    stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.PReLU(16)
    down = nn.Conv2d(16, 16, 3, 2, 1, groups=16, bias=False), nn.BatchNorm2d(16), nn.PReLU(16)
    whole = nn.Conv2d(16, 16, 16, groups=16, bias=False), nn.BatchNorm2d(16)
    end = nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32), nn.Flatten()
    network = lived_in(nn.Sequential(*stem, Residual(16), *down, Residual(16), Residual(16), *whole, *end), SIZE)
    return with_uneven_channels(network, slope)


def with_uneven_channels(network, slope):
    """Spread what channels hold over three decades, and let some be dead and some slopes be negative or above one."""
    scale = torch.logspace(-2, 1, 8)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.num_features % 8 == 0:
            spread = scale.repeat(module.num_features // 8)
            module.weight.data *= spread / spread.median()
            module.weight.data[-1], module.bias.data[-1] = 0, 0
        if isinstance(module, nn.PReLU):
            module.weight.data[:4] = torch.tensor([slope, -slope, 1 + slope, 0.0])
    return lived_in(network, SIZE)


def reidentifier():
    """Return a network of gates read by several branches, of uneven channels."""
    return lived_in(Scales(), SIZE)


@pytest.fixture(scope="module", params=[mobile, lambda: mobile(4.0), reidentifier], ids=["mobile", "steep", "gates"])
def compressed(request, tmp_path_factory, measured_quickly):
    network = request.param()
    out = tmp_path_factory.mktemp("numbers") / "out"
    model = qf.from_module(network, input_size=SIZE)
    report = qf.compress(model, out=str(out), recipe="int8-fast", sets=SETS, backends=["onnx-x86", "onnx-arm"])
    return network, out, report


def coloured(count):
    """Return images of a few smooth colours and some noise, prepared, float32 [count, 3, height, width]."""
    draw = np.random.default_rng(0)
    colours = torch.from_numpy(draw.uniform(-1, 1, (count, 3, 5, 5)).astype(np.float32))
    smooth = nn.functional.interpolate(colours, SIZE, mode="bicubic").numpy()
    return np.clip(smooth + draw.normal(0, 0.05, smooth.shape), -1, 1).astype(np.float32)


def centred(rows):
    return rows - rows.mean(0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int8.x86.onnx", "int8.arm.onnx"])
def test_images_stay_as_far_apart_as_they_were(name, compressed):
    network, out, _ = compressed
    batch = coloured(24)
    one, other = centred(module_rows(network, batch)), centred(runtime_rows(out / name, batch))
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    spread = np.linalg.norm(other) / np.linalg.norm(one)
    assert cosine.mean() > 0.95 and 0.9 < spread < 1.1, f"cosine {cosine.mean():.4f}, spread {spread:.3f}"


@pytest.mark.slow
def test_every_layer_runs_on_integers_and_the_file_is_small(compressed):
    found = next(one for one in compressed[2].artifacts if one.name == "int8.x86.onnx")
    assert found.convolutions and found.integer_convolutions == found.convolutions
    assert found.integer_linear_layers == found.linear_layers
    assert found.latency is not None and found.times_faster is not None  # whatever it is, the report says it


def foreign_int8(folder):
    """Write a file as other quantizers write them: codes around convolutions, the activations between in float."""
    scale, zero = np.float32(0.05), np.uint8(128)
    nodes, last = [], "x"
    for number in range(2):
        codes = node("QuantizeLinear", f"{last} scale zero", f"q{number}")
        back = node("DequantizeLinear", f"q{number} scale zero", f"d{number}")
        layer = node("Conv", f"d{number} w{number}", f"c{number}", strides=[2, 2])
        nodes += [codes, back, layer, node("PRelu", f"c{number} slopes", f"p{number}")]
        last = f"p{number}"
    ends, constants = tail(last)
    constants |= {"scale": scale, "zero": zero, "w0": drawn(0, WIDTH, 3, 3, 3), "w1": drawn(1, WIDTH, WIDTH, 3, 3)}
    constants["slopes"] = abs(drawn(2, WIDTH, 1, 1, scale=0.3))
    return saved(folder, built([*nodes, *ends], constants, shape=("N", 3, 112, 112)), "their_int8.onnx")


@pytest.mark.parametrize("command", ["benchmark", "inspect"])
def test_the_int8_file_of_another_tool_is_judged_and_explained(command, tmp_path, monkeypatch, capsys):
    path, more = foreign_int8(tmp_path), ("--rounds", "10") if command == "benchmark" else ()
    assert open_embedder(path, Wanted(FACTS)).run(np.zeros((2, 3, 112, 112), np.float32)).shape == (2, EMBEDDING)
    code, said, told = run_here(monkeypatch, capsys, command, path, *more)
    assert code == 0, told
    if command == "inspect":
        assert "PRelu" in said and "Float islands" in said


def test_the_int8_file_of_another_tool_is_not_compressed_again(tmp_path):
    with pytest.raises(CheckpointError, match="quantized already: 4 nodes such as .*QuantizeLinear") as raised:
        load_model(foreign_int8(tmp_path))
    assert "float file that it was made from" in raised.value.fix
