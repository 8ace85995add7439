"""Every command and snippet in the documents, and every example of a `--help`, is run on small stand-ins."""

import contextlib
import importlib
import io
import pickle
import shutil
import subprocess
import sys
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from documents import PAGES, README, arguments, blocks, shows, title
from evaluation.ijb_files import write_protocol
from helpers import measure_quickly, run_here, write_tiny
from PIL import Image
from record_files import insightface, write_records
from torch import nn

from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends._float_files import export_float
from qface_toolkit.cli import qface as root
from qface_toolkit.evaluation import synthetic
from qface_toolkit.evidence import collect
from qface_toolkit.gate import open_report, update_baseline
from qface_toolkit.methods import METHODS
from qface_toolkit.models import ARCHITECTURES, from_module
from qface_toolkit.pipeline import _check, _evaluate, read_full_recipe, train
from qface_toolkit.scoring.identities import verify_identities
from qface_toolkit.sources import SOURCES, find_set

QUICK = {
    "equalize": {"images": 16, "iterations": 5},
    "reconstruct": {"images": 16, "iterations": 2},
    "distill": {"epochs": 1},
    "allocate": {"images": 4},
}
"""What steps are given here: what is shown is meant for real networks, hundreds of images and minutes."""
MEASURING_S = 1.0
REGISTRIES = {"models": ARCHITECTURES, "sources": SOURCES, "methods": METHODS, "backends": BACKENDS}

pytestmark = pytest.mark.slow


def shown_in_help():
    """Return the examples of every command, found as the indented lines that begin with its name."""
    commands = [*root.commands.values(), *root.commands["recipes"].commands.values()]
    lines = [line.strip() for command in commands for line in (command.help or "").splitlines()]
    return [line for line in lines if line.startswith("qface ") and not line.startswith("qface completion")]


def everything_shown():
    """Return each command once, with a page that shows it and the output that is shown beneath it."""
    shown = {}
    for page in PAGES:
        for block in blocks(page, "sh"):
            lines = [line for line in block.commands() if line.startswith("qface ")]
            for line in lines:
                said = block.said if line == lines[-1] else None
                if shown.get(line, (page, None))[1] is None:
                    shown[line] = (shown.get(line, (page,))[0] if said is None else page, said)
    shown |= {line: (README, None) for line in shown_in_help() if line not in shown}
    return [(page, line, said) for line, (page, said) in shown.items()]


SHOWN = everything_shown()


@pytest.fixture(scope="module")
def desk(tmp_path_factory, finished):
    """Give a folder with everything that the documents speak of, in small."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("out", "demo-out", "result"):
        shutil.copytree(finished / "out", folder / name)
    write_tiny(folder / "backbone.pth")
    for name in ("float.onnx", "int8.x86.onnx"):
        shutil.copy(folder / "out" / name, folder / name)
    for name in ("int8.onnx", "someones.onnx"):
        shutil.copy(folder / "out" / "int8.x86.onnx", folder / name)
    judged = open_report(folder / "out")
    timing = _check.measure_beside(judged, longest_s=MEASURING_S)
    for name in ("baseline.json", "qface-baseline.json"):
        update_baseline(judged, folder / name, timing)
    silent = onnx.load(folder / "float.onnx")
    del silent.metadata_props[:]
    onnx.save(silent, folder / "backbone.onnx")
    _write_networks_of_other_sizes(folder)
    _write_faces(folder)
    _write_training(folder)
    write_protocol(folder / "IJBC")
    (folder / "sets").mkdir()
    shutil.copy(folder / "lfw.bin", folder / "sets" / "lfw.bin")
    found = _evaluate.evaluate(str(folder / "out"), _evaluate.EvaluationSet(faces=folder / "people", draws=20))
    _evaluate.write_evaluation(found, folder / "judged", force=False)
    return folder


def _write_networks_of_other_sizes(folder):
    for name, channels, side in (("facenet", 3, 160), ("light", 1, 128)):
        layers = nn.Conv2d(channels, 8, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16)
        color = "gray" if channels == 1 else "rgb"
        model = from_module(nn.Sequential(*layers), input_size=(side, side), color=color)
        (folder / f"{name}.onnx").write_bytes(export_float(model.network, model.spec, {}))


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
    _write_photo(folder, drawn.images.crop(0))


def _write_photo(folder, crop):
    """Write a photo with a drawn face 40 pixels to the right and 60 down of where an aligned crop has it."""
    photo = np.zeros((240, 200, 3), np.uint8)
    photo[60:172, 40:152] = crop
    Image.fromarray(photo).save(folder / "photo.jpg", quality=95, subsampling=0)
    Image.fromarray(crop).save(folder / "enrolled.png")
    (folder / "crops").mkdir()
    for path in (folder / "people").glob("*/*.png"):
        shutil.copy(path, folder / "crops" / f"{path.parent.name}-{path.name}")


def _write_training(folder):
    """Write the people as RecordIO and as shards, a student of the backbone under each name, and one born int8."""
    people = [[path.read_bytes() for path in sorted(own.iterdir())] for own in sorted((folder / "people").iterdir())]
    write_records(folder / "train.rec", insightface(people))
    (folder / "shards").mkdir()
    for number, half in enumerate((people[:6], people[6:])):
        with tarfile.open(folder / "shards" / f"train-{number:03}.tar", "w") as shard:
            for label, own in enumerate(half, 6 * number):
                for at, image in enumerate(own):
                    for suffix, data in (("png", image), ("cls", str(label).encode())):
                        member = tarfile.TarInfo(f"{label:02}-{at}.{suffix}")
                        member.size = len(data)
                        shard.addfile(member, io.BytesIO(data))
    given = {"teachers": [folder / "backbone.pth"], "data": folder / "crops", "threads": 1}
    sets = ["width=0.125", "embedding_size=32", "epochs=2", "batch_size=18"]
    train("mobilefacenet", **given, sets=sets, out=folder / "student")
    for name in ("big", "middle"):
        shutil.copytree(folder / "student", folder / name)
    sets = ["epochs=1", "batch_size=18"]
    train(folder / "student", data=folder / "crops", threads=1, recipe="int8-qat", sets=sets, out=folder / "rounded")


@pytest.fixture
def at_desk(desk, tmp_path, monkeypatch):
    """Work on a copy of the desk, with few images to measure on."""
    copy = shutil.copytree(desk, tmp_path / "desk")
    monkeypatch.chdir(copy)
    measure_quickly(monkeypatch)
    monkeypatch.setattr(_check, "LONGEST_S", MEASURING_S)
    monkeypatch.setattr(collect, "find_set", lambda name: find_set(name).model_copy(update={"count": 160}))
    monkeypatch.setattr(collect, "verify_identities", partial(verify_identities, per_fold=20))
    monkeypatch.setattr(_evaluate, "synthetic_people", lambda: synthetic.synthetic_people(12, 3))
    engine = torch.backends.quantized.engine
    yield copy
    torch.backends.quantized.engine = engine


@pytest.fixture
def unpacked(at_desk, tmp_path, monkeypatch):
    """Return what lays out the files that a page shows: YAML on the desk, modules in their rooms of the package."""
    added = []

    def unpack(page):
        for block in blocks(page, "yaml", "text", "python"):
            if block.language != "python" and block.name:
                Path(block.name).write_text(block.text)
            elif block.language == "python" and block.name:
                added.append(_add_module(block, tmp_path, monkeypatch))

    yield unpack
    for room, module in added:
        sys.modules.pop(module, None)
        vars(sys.modules[room]).pop(module.rpartition(".")[2], None)
    for registry in REGISTRIES.values():
        registry._entries = None


def _add_module(block, folder, monkeypatch):
    """Let a module be found in its room of the package, as if its file lay there; return both names."""
    _, room, name = Path(block.name).parts
    file = folder / "rooms" / room / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(block.text)
    package = importlib.import_module(f"qface_toolkit.{room}")
    if str(file.parent) not in package.__path__:
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(file.parent)])
    REGISTRIES[room]._entries = None
    return package.__name__, f"{package.__name__}.{file.stem}"


def quick_steps(args):
    """Return settings that make the steps of a compression's recipe quick."""
    named = dict(zip(args, args[1:], strict=False))
    sets = ["calibration.count=16"]
    for place, step in enumerate(read_full_recipe(named.get("--recipe", "int8"))["steps"]):
        ((name, options),) = step.items()
        timed = {"seconds": 0.1} if options.get("seconds") else {}
        sets += [f"steps.{place}.{key}={value}" for key, value in (QUICK.get(name, {}) | timed).items()]
    return [part for one in sets for part in ("--set", one)]


def quick_training(args):
    """Return settings by which a student learns in a second from the desk's teachers, whose embeddings are short."""
    sets = ["batch_size=18", "teacher.projection=true"]
    sets += [f"epochs={2 if any('*' in arg for arg in args) else 1}"]
    if args[0] in ARCHITECTURES.names():
        sets += ["width=0.125"]
    if "drawings" in args:
        sets += ["data.count=36", "data.images_per_identity=2"]
    if any(arg.startswith("data.held_out=") for arg in args) or "drawn-people" in args:
        sets += ["data.held_out=2"]
    return [part for one in sets for part in ("--set", one)]


def prepared(line):
    """Return the arguments of a line, made quick; results that it writes are made anew."""
    command, *args = arguments(line)
    if command == "train":
        args += [*quick_training(args), "--threads", "1", *([] if "--resume" in args else ["--force"])]
    if command == "compress":
        args += quick_steps(args) + ([] if "--dry-run" in args else ["--force"])
        args += [] if "demo" in args or {"--recipe", "--backend"} & set(args) else ["--backend", "onnx-x86"]
    if command == "compress" and {"small", "budget.bytes=0.2"} & set(args) and "budget.bytes=null" not in args:
        # The text of so small a network's graph weighs more than its weights.
        args += ["--set", "budget.bytes=0.8"]
    if command == "compress" and "demo" not in args:
        # Random weights lose more than a trained network does.
        args += ["--set", "budget.floor_cosine=null"]
    if any(arg.startswith("budget.times_faster=") for arg in args):
        # How fast a network of some microseconds is, is not what is tested here.
        args += ["--set", "budget.times_faster=0.01"]
    if command == "synth":
        args += [] if "--count" in args else ["--count", "4"]
    if "--pairs" in args or "--suite" in args:
        args += ["--folds", "5"]
    if command == "check" and "--measure" in args:
        # Whether a network of some microseconds became slower is not what is tested here.
        args += ["--set", "latency_growth=9"]
    if command == "evaluate":
        args += ["--draws", "20", *(["--force"] if "--out" in args else [])]
    return [command, *args]


@pytest.mark.parametrize(("page", "line", "said"), SHOWN, ids=[line for _, line, _ in SHOWN])
def test_what_is_shown_runs(page, line, said, at_desk, unpacked, monkeypatch, capsys):
    unpacked(page)
    code, out, err = run_here(monkeypatch, capsys, *prepared(line))
    assert code == 0, err
    assert out
    assert said is None or shows(said, out), out


def test_something_is_shown():
    assert len(SHOWN) > 60
    assert len(shown_in_help()) > 12
    assert sum(said is not None for _, _, said in SHOWN) >= 2
    assert len([block for page in PAGES for block in blocks(page, "python")]) > 20


class AnyNetwork(nn.Module):
    """Stands for the reader's own network."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.BatchNorm2d(8), nn.PReLU(8), nn.Conv2d(8, 16, 3, 4))
        self.embed = nn.Linear(16, 12)

    def forward(self, images):
        return self.embed(self.body(images).mean(dim=(2, 3)))


PYTHON = [page for page in PAGES if blocks(page, "python")]


@pytest.mark.parametrize("page", PYTHON, ids=title)
def test_the_snippets_of_a_page_run_one_after_the_other(page, at_desk, unpacked):
    torch.manual_seed(0)
    unpacked(page)
    names = {"network": AnyNetwork().eval()}
    for block in blocks(page, "python"):
        if block.name:
            continue
        heard = io.StringIO()
        quick = block.text.replace("calibration.count=256", "calibration.count=16")
        quick = quick.replace("sets=few)", "sets=few, threads=1)")
        with contextlib.redirect_stdout(heard):
            exec(compile(quick, title(page), "exec"), names)
        assert block.said is None or heard.getvalue() == block.said


CPP = [(page, block) for page in PAGES for block in blocks(page, "cpp")]


@pytest.mark.parametrize(("page", "block"), CPP, ids=lambda one: title(one) if one in PAGES else "cpp")
def test_the_snippet_of_cpp_compiles_and_runs(page, block, at_desk):
    torch_folder = Path(torch.__file__).parent
    Path("main.cpp").write_text(block.text.replace("112, 112", "112, 96"))
    includes = [f"-I{torch_folder}/include{below}" for below in ("", "/torch/csrc/api/include")]
    libraries = [f"-L{torch_folder}/lib", f"-Wl,-rpath,{torch_folder}/lib", "-ltorch", "-ltorch_cpu", "-lc10"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    subprocess.run(["g++", "-std=c++20", abi, "main.cpp", *includes, *libraries, "-o", "main"], check=True)
    found = subprocess.run(["./main"], check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["[1,", "32]"]
