"""What the whole command says to bad input, and what a job that is stopped leaves behind: all of the folder or none."""

import itertools
import os
import pickle
import re
import shutil
import signal
import subprocess
import zipfile
from types import SimpleNamespace

import pytest
import torch
from finished_folders import intact
from helpers import SMALL, contents, fill_disk, measure_quickly, run_apart, run_here, start, wait_for, write_tiny

MESSAGE = re.compile(r"error: \S.*\n(.*\n)*  where: \S.*\n  to do: \S.*\n", re.MULTILINE)
STEPS = (
    "draw calibration images",
    "1. equalize",
    "2. calibrate",
    "3. correct_bias",
    "export float.onnx",
    "lower to int8.x86.onnx",
    "lower to int8.x86.ts",
    "lower to int8.qnnpack.ts",
    "write golden vectors",
    "measure",
)


@pytest.fixture
def qface(monkeypatch, capsys):
    """Give a function that runs the command in this process."""
    measure_quickly(monkeypatch)
    return lambda *args: run_here(monkeypatch, capsys, *args)


@pytest.fixture
def refused(qface, tmp_path):
    """Give a function that runs `qface compress`, sees it refused as a user's mistake should be, and returns why."""

    def refuse(checkpoint, *args, out=tmp_path / "out"):
        before = sorted(tmp_path.rglob("*"))
        code, printed, message = qface("compress", checkpoint, "--out", out, *SMALL, *args)
        assert (code, printed) == (1, ""), message
        assert MESSAGE.search(message), message
        assert "Traceback" not in message
        assert sorted(tmp_path.rglob("*")) == before
        return message

    return refuse


def text(path):
    path.write_text("this is a letter to my aunt\n" * 20)


def pickled_module(path):
    torch.save(torch.nn.Linear(3, 4), path)


def bare_pickle(path):
    path.write_bytes(pickle.dumps({"weight": [1.0, 2.0]}))


def zip_bomb(path):
    plain = write_tiny(path.with_name("plain.pth"), lambda state: state | {"more": torch.zeros(1 << 22)})
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    plain.unlink()


def truncated(path):
    data = write_tiny(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def unknown_net(path):
    torch.save({"stem.weight": torch.zeros(4, 3, 3, 3), "top.weight": torch.zeros(8, 4)}, path)


def lacking_key(path):
    write_tiny(path, lambda state: {key: value for key, value in state.items() if key != "conv2.prelu.weight"})


def not_a_number(path):
    write_tiny(path, lambda state: state | {"conv2.conv.weight": state["conv2.conv.weight"] * float("nan")})


def wrong_embedding_size(path):
    write_tiny(path, lambda state: state | {"linear1.conv.weight": state["linear1.conv.weight"][:20]})


def missing(path):
    pass


BAD_CHECKPOINTS = {
    text: "not a checkpoint",
    pickled_module: "pickled Python objects, which are never loaded",
    bare_pickle: "Python pickle",
    zip_bomb: "torch.save did not write this zip archive",
    truncated: "damaged or cut short",
    unknown_net: "fits no architecture",
    lacking_key: "conv2.prelu.weight",
    not_a_number: "conv2.conv.weight",
    wrong_embedding_size: "linear1",
    missing: "no such checkpoint",
}


@pytest.mark.parametrize("make", BAD_CHECKPOINTS, ids=lambda make: make.__name__)
def test_bad_checkpoint(make, refused, tmp_path):
    path = tmp_path / "w.pth"
    make(path)
    message = refused(path)
    assert BAD_CHECKPOINTS[make] in message
    assert str(path) in message


FOUR_MISTAKES = """
version: 1
calibration: {sett: drawings}
steps:
  - calibrate: {observer: maxmin}
  - distil: {}
backends: [onnx-x68]
"""


def test_recipe_with_five_mistakes_tells_all_of_them(refused, checkpoint, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(FOUR_MISTAKES)
    message = refused(checkpoint, "--recipe", recipe, "--set", "calibration.count=many")
    assert "5 mistakes" in message
    for path in ("calibration.count", "calibration.sett", "steps.0.calibrate.observer", "steps.1", "backends"):
        assert f"\n  {path}: " in message
    assert "did you mean distill?" in message


BAD_OPTIONS = {
    "recipe": (("--recipe", "int9"), "int9"),
    "recipe file": (("--recipe", "none.yaml"), "none.yaml"),
    "model": (("--model", "mobilfacenet"), "did you mean mobilefacenet?"),
    "backend": (("--backend", "onnx-x68"), "did you mean onnx-x86?"),
    "set": (("--set", "calibration.set=drawing"), "did you mean drawings?"),
    "mean": (("--set", "model.mean=[1, 2]"), "model.mean"),
    "color": (("--set", "model.color=grey"), "model.color"),
    "key": (("--set", "calibration.cuont=5"), "did you mean count?"),
    "no value": (("--set", "calibration.count"), "calibration.count"),
    "no images": (("--set", "calibration.count=0"), "calibration.count"),
}


@pytest.mark.parametrize(("args", "match"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_option(args, match, qface, checkpoint, tmp_path):
    code, printed, message = qface("compress", checkpoint, "--out", tmp_path / "out", *SMALL, *args)
    assert (code, printed) == (1, ""), message
    assert match in message
    assert "  to do: " in message
    assert "Traceback" not in message
    assert not list(tmp_path.iterdir())


def write_folder_set(path, images):
    path.write_text(f"kind: folder\nparameters: {{path: {images}}}\ncount: 16\n")
    return f"calibration.set={path}"


@pytest.mark.parametrize("kind", ["empty", "missing", "of other files"])
def test_folder_without_calibration_images(kind, refused, checkpoint, tmp_path):
    images = tmp_path / "images"
    if kind != "missing":
        images.mkdir()
    if kind == "of other files":
        (images / "faces.txt").write_text("none")
    assert str(images) in refused(checkpoint, "--set", write_folder_set(tmp_path / "mine.yaml", images))


def test_calibration_image_that_is_none(refused, checkpoint, tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(16):
        (tmp_path / "images" / f"{number:02}.png").write_bytes(b"not a picture")
    message = refused(checkpoint, "--set", write_folder_set(tmp_path / "mine.yaml", tmp_path / "images"))
    assert str(tmp_path / "images" / "00.png") in message


def test_folder_that_exists_is_not_replaced(refused, checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    assert "--force" in refused(checkpoint)


def test_folder_of_somebody_else_is_not_replaced_by_force(refused, checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    assert "not made by qface" in refused(checkpoint, "--force")


def test_folder_below_a_file(refused, checkpoint, tmp_path):
    (tmp_path / "file").write_text("a file")
    assert str(tmp_path / "file") in refused(checkpoint, out=tmp_path / "file" / "out")


def test_root_is_no_output_folder(refused, checkpoint):
    assert "cannot be an output folder" in refused(checkpoint, out="/")


@pytest.fixture
def disk(tmp_path):
    """Give a small disk of its own that can be filled or made read-only."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        done = subprocess.run(["mount", *options, place], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("this user may not mount a disk")

    if not shutil.which("mount"):
        pytest.skip("there is no mount command")
    mount(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
    yield SimpleNamespace(place=place, change=lambda options: mount(["-o", f"remount,{options}"]))
    subprocess.run(["umount", place], check=True)


def test_read_only_disk(disk, refused, checkpoint):
    disk.change("ro")
    assert "read-only" in refused(checkpoint, out=disk.place / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(refused, checkpoint, tmp_path):
    (tmp_path / "folder").mkdir(mode=0o555)
    assert "may not be written" in refused(checkpoint, out=tmp_path / "folder" / "out")


@pytest.mark.slow
def test_full_disk_loses_nothing(qface, checkpoint, tmp_path, monkeypatch):
    job = ("compress", checkpoint, "--out", tmp_path / "out", *SMALL, "--backend", "onnx-x86")
    with monkeypatch.context() as patch:
        fill_disk(patch, "int8.x86.onnx")
        code, _, message = qface(*job)
    assert (code, "error: the disk is full" in message) == (1, True), message
    assert MESSAGE.search(message), message
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    assert "--resume" in qface(*job)[2]
    code, _, message = qface(*job, "--resume")
    assert (code, said_steps(message)) == (0, steps_from("lower to int8.x86.onnx")), message
    intact(tmp_path / "out")


def said_steps(err):
    return tuple(line for line in err.splitlines() if line in STEPS)


def steps_from(step):
    """Return this step and those behind it of a job that writes int8.x86.onnx alone."""
    return tuple(itertools.dropwhile(lambda one: one != step, (one for one in STEPS if not one.endswith(".ts"))))


@pytest.mark.slow
@pytest.mark.parametrize("step", ["draw calibration images", "1. equalize"])
def test_ctrl_c_leaves_no_half_written_folder(step, checkpoint, tmp_path):
    with start("compress", checkpoint, "--out", tmp_path / "out", *SMALL) as process:
        wait_for(process, step)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == (["out.partial"] if step == "1. equalize" else [])


@pytest.fixture(scope="module")
def uninterrupted(checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    code, _, err = run_apart("compress", checkpoint, "--out", out, *SMALL, "--backend", "onnx-x86")
    assert code == 0, err
    return contents(out)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["1. equalize", "2. calibrate", "lower to int8.x86.onnx", "measure"])
def test_killed_job_goes_on_where_it_stopped(step, checkpoint, uninterrupted, tmp_path):
    job = ("compress", checkpoint, "--out", tmp_path / "out", *SMALL, "--backend", "onnx-x86")
    with start(*job) as process:
        wait_for(process, step)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    code, _, err = run_apart(*job)
    assert (code, "--resume" in err) == (1, True), err
    code, _, err = run_apart(*job, "--resume")
    assert code == 0, err
    assert said_steps(err) == steps_from(step)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    after = contents(tmp_path / "out")
    assert after.keys() == uninterrupted.keys()
    different = {name for name in after if after[name] != uninterrupted[name]}
    assert different == {"report.json", "report.md", "report.html", "model_card.md", "manifest.json"}


@pytest.mark.slow
def test_work_of_another_job_is_not_resumed(checkpoint, tmp_path):
    job = ("compress", checkpoint, "--out", tmp_path / "out", *SMALL)
    with start(*job) as process:
        wait_for(process, "2. calibrate")
        process.kill()
    code, _, err = run_apart(*job, "--resume", "--seed", "1")
    assert (code, "another job" in err) == (1, True), err
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]


@pytest.mark.slow
def test_job_goes_on_when_the_disk_has_room_again(disk, checkpoint):
    job = ("compress", checkpoint, "--out", disk.place / "out", *SMALL)
    code, printed, err = run_apart(*job)
    assert (code, printed, "error: the disk is full" in err) == (1, "", True), err
    assert "Traceback" not in err
    assert [path.name for path in disk.place.iterdir()] == ["out.partial"]
    disk.change("size=16m")
    code, _, more = run_apart(*job, "--resume")
    assert code == 0, more
    assert said_steps(more) == STEPS[len(said_steps(err)) - 1 :]
    intact(disk.place / "out")
