"""TorchScript archives: ours are read, and one that could do anything else is not even loaded."""

import io
import warnings
import zipfile

import pytest
import torch
from quantized import opened, small_model
from torch import nn

from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends.torch_int8 import _saved
from qface_toolkit.canonical.islands import ISLANDS, MOVES, Island, Move
from qface_toolkit.errors import ArtifactError
from qface_toolkit.runtimes.fusion import integer_count

BACKEND = BACKENDS.get("torch-x86")


ONES = torch.ones(1, 4, 1, 1)
PAIRS = ("matmul", "plus", "minus", "times", "quotient", "maximum", "minimum", "join")
OPTIONS = {
    "power": ({"exponent": 2.0}, ()),
    "clip": ({"low": -1.0, "high": 1.0}, ()),
    "sloped": ({}, (ONES,)),
    "scaled": ({}, (ONES, ONES)),
    "softmax": ({"axis": 1}, ()),
    "layer_norm": ({"axes": (1,), "eps": 1e-6}, (ONES, ONES, ONES)),
    "unit": ({"axes": (1,), "eps": 1e-6}, ()),
    **dict.fromkeys(("length", "mean", "sum", "largest"), ({"axes": (1,), "keepdims": True}, ())),
    "resized": ({"before": (6, 6), "size": (12, 12), "mode": "bilinear", "align_corners": False}, ()),
    "padded": ({"sides": (1, 1), "mode": "constant", "value": 0.5}, ()),
    "permute": ({"order": (0, 2, 3, 1)}, ()),
    "reshape": ({"shape": (4, 36)}, ()),
    "slice": ({"axis": 2, "start": 0, "stop": 6, "step": 2}, ()),
    "pick": ({"axis": 1, "indices": (0, 2)}, ()),
    "join": ({"axis": 1}, ()),
    "border": ({"sides": (1, 1, 1, 1)}, ()),
    "nearest": ({"before": (6, 6), "size": (12, 12)}, ()),
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    opened("torch-x86", small_model("mobilefacenet"), folder)
    return folder / BACKEND.artifact


def test_everything_of_ours_works_on_codes(ours):
    fusion = BACKEND.inspect(ours)
    assert (fusion.quantized, fusion.integer_share, fusion.islands) == (True, 1.0, ())
    assert integer_count(fusion.convolutions) == len(fusion.convolutions) > 0
    assert integer_count(fusion.linear_layers) == len(fusion.linear_layers) == 1
    assert fusion.time_us is None


def archived(network, path, facts=None):
    traced = torch.jit.freeze(torch.jit.trace(network.eval(), torch.zeros(1, 3, 8, 8)))
    if facts is None:
        torch.jit.save(traced, path)
    else:
        path.write_bytes(_saved(traced, facts))
    return path


def test_float_operators_are_found(tmp_path):
    class Mixed(nn.Module):
        def forward(self, x):
            codes = torch.quantize_per_tensor(x, 0.1, 128, torch.quint8)
            return torch.quantize_per_tensor(torch.sigmoid(codes.dequantize()), 0.1, 0, torch.quint8).dequantize()

    fusion = BACKEND.inspect(archived(Mixed(), tmp_path / "file.ts", {"engine": "x86"}))
    [island] = fusion.islands
    assert set(island.kinds) == {"aten::sigmoid"}
    assert "works on float tensors" in island.reason


def test_float_network_is_called_one(tmp_path):
    fusion = BACKEND.inspect(archived(nn.Conv2d(3, 2, 1), tmp_path / "file.ts", {"engine": "x86"}))
    assert (fusion.quantized, integer_count(fusion.convolutions), len(fusion.convolutions)) == (False, 0, 1)


class Scribbler(nn.Module):
    """Writes a file when it is run."""

    def forward(self, x):
        torch.save(x, "owned")
        return x


def test_strangers_are_not_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("qface_toolkit.backends.torch_int8._load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(ArtifactError, match="no TorchScript archive of ours"):
        BACKEND.inspect(archived(nn.ReLU(), tmp_path / "plain.ts"))
    scripted = tmp_path / "scribbler.ts"
    scripted.write_bytes(_saved(torch.jit.script(Scribbler()), {"engine": "x86"}))
    with pytest.raises(ArtifactError, match=r"calls what no archive of ours does: torch\.save"):
        BACKEND.inspect(scripted)


def rewritten(ours, path, change):
    """Copy an archive with another text for its program, uncompressed as torch does it."""
    with zipfile.ZipFile(ours) as source, zipfile.ZipFile(path, "w") as target:
        for record in source.infolist():
            data = source.read(record)
            name = record.filename
            target.writestr(name, change(data.decode()).encode() if name.endswith("graph_module.py") else data)
    return path


@pytest.mark.parametrize(
    "call",
    [
        "torch.save(x, 'f')",
        "x.save('f')",
        "x. save ('f')",
        "ops.aten.save(x, 'f')",
        "(x).tofile('f')",
        "print(x)",
        "__torch__.other(x)",
    ],
)
def test_no_other_call_passes(ours, tmp_path, call):
    path = rewritten(ours, tmp_path / "file.ts", lambda text: text.replace("    return", f"    _ = {call}\n    return"))
    with pytest.raises(ArtifactError, match="calls what no archive of ours does"):
        BACKEND.inspect(path)


def test_an_archive_that_may_never_end_is_refused(ours, tmp_path):
    loop = "    while True:\n      pass\n    return"
    path = rewritten(ours, tmp_path / "file.ts", lambda text: text.replace("    return", loop))
    with pytest.raises(ArtifactError, match="loops"):
        BACKEND.inspect(path)


def test_code_that_runs_at_load_is_refused(ours, tmp_path):
    hook = "  def __setstate__(self, state: int) -> NoneType:\n    pass\n"
    path = rewritten(ours, tmp_path / "file.ts", lambda text: text + hook)
    with pytest.raises(ArtifactError, match="__setstate__"):
        BACKEND.inspect(path)


def test_damaged_and_compressed_archives(ours, tmp_path, monkeypatch):
    data, path = ours.read_bytes(), tmp_path / "file.ts"
    for damaged in (b"", b"PK" + bytes(100), data[: len(data) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match="no TorchScript archive of ours|is empty"):
            BACKEND.inspect(path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/code/a.py", "a" * 10_000)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ArtifactError, match="no TorchScript archive of ours"):
        BACKEND.inspect(path)


@pytest.mark.parametrize("kind", [*ISLANDS, *MOVES])
def test_what_an_island_or_a_move_calls_may_stand_in_an_archive(kind, tmp_path):
    """Each operation of a table, with options that suit a small image."""
    options, constants = OPTIONS.get(kind, ({}, ()))
    network = (Island if kind in ISLANDS else Move).of(kind, *constants, **options)
    inputs = [torch.rand(2, 4, 6, 6)] * (2 if kind in PAIRS else 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is picked is a constant, as it should be
        traced = torch.jit.freeze(torch.jit.trace(network.eval(), inputs))
    path = tmp_path / "file.ts"
    path.write_bytes(_saved(traced, {"engine": "x86"}))
    assert BACKEND.read(path).facts["engine"] == "x86"
