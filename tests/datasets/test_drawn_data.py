"""Calibration sets as training data: drawn once, by several processes, into a file that is whole or absent."""

import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from encoded import crop, encoded

from qface_toolkit.datasets import Opening, _drawing, open_data
from qface_toolkit.errors import ArtifactError, CalibrationError, QFaceError
from qface_toolkit.framing import Frame
from qface_toolkit.sources import drawn_traits, find_set, load_crops, matched


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Return a folder that holds eight drawings of four people."""
    folder = tmp_path_factory.mktemp("drawn")
    open_data("drawings", Opening(count=8, seed=3, images_per_identity=2, cache=folder, threads=2))
    return folder


def kept(cache):
    return Opening(count=8, seed=3, images_per_identity=2, cache=cache)


def test_drawings_are_those_of_the_set_whoever_draws_them(cache):
    data = open_data("drawings", kept(cache))
    expected = find_set("drawings")
    expected = expected.model_copy(update={"parameters": expected.parameters | {"images_per_identity": 2}})
    assert np.array_equal(np.stack([data.example(index).crop for index in range(8)]), load_crops(expected.open(8, 3)))
    assert data.labels().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [data.example(index).label for index in range(8)] == data.labels().tolist()
    assert data.contains_no_real_face_data is True


def test_traits_are_those_of_the_people_drawn(cache):
    traits = open_data("drawings", kept(cache)).traits()
    assert traits.shape[0] == 4 and traits.dtype == np.float32 and np.abs(traits).max() <= 1
    assert np.array_equal(traits, drawn_traits(3, 4, "calibration"))
    assert not np.array_equal(traits, drawn_traits(3, 4, "heldout"))


def test_the_cache_is_one_file_that_numpy_reads(cache):
    (file,) = cache.iterdir()
    assert file.name.startswith("procedural-3-8-") and file.suffix == ".npy"
    crops = np.load(file, mmap_mode="r")
    assert (crops.shape, crops.dtype) == ((8, 112, 112, 3), np.uint8)
    assert np.array_equal(crops[5], open_data("drawings", kept(cache)).example(5).crop)


def test_what_is_in_the_cache_is_not_drawn_again(cache, monkeypatch):
    monkeypatch.setattr("qface_toolkit.datasets.drawn._draw", None)
    assert len(open_data("drawings", kept(cache))) == 8
    with pytest.raises(TypeError):
        open_data("drawings", Opening(count=8, seed=4, images_per_identity=2, cache=cache))


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"x" + data[1:], lambda data: b""])
def test_a_damaged_cache_is_drawn_again(damage, tmp_path):
    opening = Opening(count=2, seed=3, cache=tmp_path)
    whole = open_data("drawings", opening).example(1).crop
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert np.array_equal(open_data("drawings", opening).example(1).crop, whole)


def test_one_image_of_each_has_no_labels():
    told = []
    opening = Opening(count=2, progress=lambda done, total: told.append((done, total)))
    data = open_data("drawings", opening)
    assert (data.kind, data.name, data.identities, data.labels(), data.traits()) == ("drawn", "drawings", 0, None, None)
    assert data.example(1).label == -1
    assert told == [(1, 2), (2, 2)]


def test_progress_is_told_of_all_processes(tmp_path):
    told = []
    tell = {"progress": lambda done, total: told.append((done, total))}
    open_data("drawings", Opening(count=3, cache=tmp_path, threads=2, **tell))
    assert told[-1] == (3, 3)
    assert told == sorted(told)


def test_a_script_without_a_guard_can_draw(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from qface_toolkit.datasets import Opening, open_data\n"
        "print('begun')\n"
        "print(len(open_data('drawings', Opening(count=2, threads=2))))\n"
    )
    said = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert said == "begun\n2\n"
    assert list(tmp_path.iterdir()) == [script]


def test_nothing_is_left_without_a_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = open_data("drawings", Opening(count=1))
    assert data.example(0).crop.any()
    assert not list(tmp_path.iterdir())


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "fsync"])
def test_a_full_disk_is_said_in_words_and_leaves_nothing(call, tmp_path, monkeypatch):
    monkeypatch.setattr(os, call, full)
    with pytest.raises(ArtifactError, match="the disk is full"):
        open_data("drawings", Opening(count=1, cache=tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_asked_before_drawing(tmp_path):
    with pytest.raises(ArtifactError):
        open_data("drawings", Opening(count=1 << 40, cache=tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise SystemExit('no memory')", "has failed: no memory"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended from outside"),
        ("", "ended from outside"),
    ],
)
def test_a_process_that_fails_is_an_error_and_leaves_nothing(program, words, tmp_path, monkeypatch):
    monkeypatch.setattr(_drawing, "PROGRAM", program)
    with pytest.raises(CalibrationError, match=words):
        open_data("drawings", Opening(count=2, cache=tmp_path, threads=2))
    assert not list(tmp_path.iterdir())


def test_a_process_that_cannot_start_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(CalibrationError, match="cannot be started"):
        open_data("drawings", Opening(count=2, threads=2))


@pytest.mark.parametrize(
    ("source", "opening", "words"),
    [
        ("drawings", Opening(count=0), "0 calibration images"),
        ("drawings", Opening(count=8, images_per_identity=0), "0 images of each identity"),
        ("drawings", Opening(count=8, images_per_identity=8), "one identity only"),
        ("noise", Opening(count=8, images_per_identity=2), "2 images of each identity"),
        ("matched", Opening(count=2), "fitted to a float model, and none is known"),
    ],
)
def test_what_cannot_be_drawn_is_refused(source, opening, words):
    with pytest.raises(CalibrationError, match=words):
        open_data(source, opening)


def test_noise_and_folders_are_asked_for_by_index(tmp_path):
    noise = open_data("noise", Opening(count=4, seed=5))
    assert np.array_equal(noise.example(2).crop, find_set("noise").open(4, 5).crop(2))
    (tmp_path / "my.yaml").write_text(f"kind: folder\nparameters:\n  path: {tmp_path}\ncount: 1\n")
    (tmp_path / "1.png").write_bytes(encoded(1))
    data = open_data(str(tmp_path / "my.yaml"))
    assert (data.name, data.identities, data.contains_no_real_face_data) == ("my", 0, None)
    assert np.array_equal(data.example(0).crop, crop(1))
    before = data.fingerprint()
    (tmp_path / "1.png").write_bytes(encoded(1, "BMP").ljust(40000))
    assert open_data(str(tmp_path / "my.yaml")).fingerprint() != before


def test_a_set_fitted_to_a_model_is_drawn_here(tmp_path, monkeypatch):
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    monkeypatch.setattr(matched, "_has_statistics", lambda network: True)
    monkeypatch.setattr(matched.MatchedCrops, "_refined", lambda self, number: crops)
    model = SimpleNamespace(spec=SimpleNamespace(frame=Frame()), network=None, source_sha256="0" * 64)
    data = open_data("matched", Opening(count=3, model=model, cache=tmp_path, threads=2))
    assert np.array_equal(data.example(2).crop, crops[2])
    assert data.contains_no_real_face_data is None
    model.spec.frame = Frame("facenet", (160, 160))
    with pytest.raises(CalibrationError, match="no aligned crops"):
        open_data("matched", Opening(count=3, model=model))


def test_mistakes_in_a_set_are_listed(tmp_path):
    (tmp_path / "my.yaml").write_text("kind: procedural\ncount: none\nparameters: {faces: 3}\n")
    with pytest.raises(QFaceError, match="2 mistake"):
        open_data(str(tmp_path / "my.yaml"))
    with pytest.raises(QFaceError, match="no such file"):
        open_data(str(tmp_path / "other.yml"))


def test_fingerprints_differ_where_sets_do(cache):
    found = [
        open_data("drawings", Opening(count=8, seed=seed, images_per_identity=2, cache=cache)).fingerprint()
        for seed in (3, 3, 5)
    ]
    assert found[0] == found[1] != found[2]
