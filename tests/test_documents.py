"""Every command that the README or a `--help` shows runs, and so does every snippet of Python, on small stand-ins."""

import pickle
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from evaluation.ijb_files import write_protocol
from helpers import compress_tiny, measure_quickly, run_here, write_tiny
from PIL import Image
from torch import nn

from qface_toolkit.cli import qface as root
from qface_toolkit.evaluation import synthetic
from qface_toolkit.gate import open_report, update_baseline
from qface_toolkit.pipeline import _evaluate

README = Path(__file__).parents[1] / "README.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALL = ("--set", "calibration.count=16")
"""Added to every compression: what is shown there is meant for real networks and hundreds of images."""

pytestmark = pytest.mark.slow


def blocks(language):
    return [text for found, text in FENCE.findall(README.read_text("utf-8")) if found == language]


def shown_in_readme():
    lines = [line for text in blocks("sh") for line in text.splitlines()]
    return [line.partition(" #")[0].strip() for line in lines if line.startswith("qface ")]


def shown_in_help():
    """Return the examples of every command, found as the indented lines that begin with its name."""
    commands = [*root.commands.values(), *root.commands["recipes"].commands.values()]
    lines = [line.strip() for command in commands for line in (command.help or "").splitlines()]
    return [line for line in lines if line.startswith("qface ") and not line.startswith("qface completion")]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """Give a folder with everything that the documents speak of, in small."""
    folder = compress_tiny(tmp_path_factory.mktemp("desk"), "onnx-x86", "onnx-arm", "torch-x86")
    shutil.copytree(folder / "out", folder / "demo-out")
    write_tiny(folder / "backbone.pth")
    for name in ("float.onnx", "int8.x86.onnx"):
        shutil.copy(folder / "out" / name, folder / name)
    for name in ("int8.onnx", "someones.onnx"):
        shutil.copy(folder / "out" / "int8.x86.onnx", folder / name)
    update_baseline(open_report(folder / "out"), folder / "baseline.json")
    silent = onnx.load(folder / "float.onnx")
    del silent.metadata_props[:]
    onnx.save(silent, folder / "backbone.onnx")
    _write_faces(folder)
    write_protocol(folder / "IJBC")
    (folder / "sets").mkdir()
    shutil.copy(folder / "lfw.bin", folder / "sets" / "lfw.bin")
    return folder


def _write_faces(folder, people=12, each=3):
    drawn, lines = synthetic.synthetic_people(people, each), ["image,group"]
    for index in range(people * each):
        name = f"person-{index // each:02}/{index % each}.png"
        (folder / "people" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.images.crop(index)).save(folder / "people" / name)
        lines.append(f"{name},{'even' if index // each % 2 else 'odd'}")
    (folder / "groups.csv").write_text("\n".join(lines) + "\n")
    pairs = [(each * at, each * (at + shift) + 1, not shift) for at in range(10) for shift in (0, 1)]
    names = [f"person-{row // each:02}/{row % each}.png" for *rows, _ in pairs for row in rows]
    images = [(folder / "people" / name).read_bytes() for name in names]
    (folder / "lfw.bin").write_bytes(pickle.dumps((images, [same for *_, same in pairs]), protocol=2))


@pytest.fixture
def at_desk(desk, tmp_path, monkeypatch):
    """Work on a copy of the desk, with few images to measure on."""
    copy = shutil.copytree(desk, tmp_path / "desk")
    monkeypatch.chdir(copy)
    measure_quickly(monkeypatch)
    monkeypatch.setattr(_evaluate, "synthetic_people", lambda: synthetic.synthetic_people(12, 3))
    return copy


def prepared(line):
    """Return the arguments of a line; results that it writes are made anew."""
    program, command, *args = shlex.split(line)
    assert program == "qface"
    if command == "compress":
        args += [*SMALL, *([] if "--dry-run" in args else ["--force"])]
    if command == "compress" and {"small", "budget.bytes=0.2"} & set(args) and "budget.bytes=null" not in args:
        # The text of so small a network's graph weighs more than its weights.
        args += ["--set", "budget.bytes=0.8"]
    if command == "synth":
        args += [] if "--count" in args else ["--count", "4"]
    if "--pairs" in args or "--suite" in args:
        args += ["--folds", "5"]
    if command == "check" and "--measure" in args:
        # Whether a network of some microseconds became slower is not what is tested here.
        args += ["--set", "latency_growth=9"]
    if command == "evaluate":
        args += ["--draws", "20"]
    return [command, *args]


@pytest.mark.parametrize("line", dict.fromkeys([*shown_in_readme(), *shown_in_help()]))
def test_what_is_shown_runs(line, at_desk, monkeypatch, capsys):
    code, out, err = run_here(monkeypatch, capsys, *prepared(line))
    assert code == 0, err
    assert out


def test_something_is_shown():
    assert len(shown_in_readme()) > 20
    assert len(shown_in_help()) > 12


class AnyNetwork(nn.Module):
    """Stands for the reader's own network."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.BatchNorm2d(8), nn.PReLU(8), nn.Conv2d(8, 16, 3, 4))
        self.embed = nn.Linear(16, 12)

    def forward(self, images):
        return self.embed(self.body(images).mean(dim=(2, 3)))


def test_the_snippets_of_python_run_one_after_the_other(at_desk):
    torch.manual_seed(0)
    names, engine = {"network": AnyNetwork().eval()}, torch.backends.quantized.engine
    shutil.rmtree("out")
    for snippet in blocks("python"):
        exec(compile(snippet.replace("calibration.count=256", "calibration.count=16"), "README.md", "exec"), names)
    torch.backends.quantized.engine = engine
    assert np.asarray(names["embedding"]).shape[1] == 12


def test_the_snippet_of_cpp_compiles_and_runs(at_desk):
    (snippet,) = blocks("cpp")
    torch_folder = Path(torch.__file__).parent
    Path("main.cpp").write_text(snippet.replace("112, 112", "112, 96"))
    includes = [f"-I{torch_folder}/include{below}" for below in ("", "/torch/csrc/api/include")]
    libraries = [f"-L{torch_folder}/lib", f"-Wl,-rpath,{torch_folder}/lib", "-ltorch", "-ltorch_cpu", "-lc10"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    subprocess.run(["g++", "-std=c++20", abi, "main.cpp", *includes, *libraries, "-o", "main"], check=True)
    found = subprocess.run(["./main"], check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["[1,", "32]"]
