"""The user's own crops: whatever is wrong with them is said with the file's name and what to do."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from qface_toolkit.errors import CalibrationError
from qface_toolkit.framing import Frame
from qface_toolkit.sources import SOURCES, draw, load_crops
from qface_toolkit.sources.folder import FolderOptions


def save(path, size=(112, 112), value=0, **kwargs):
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(path, **kwargs)


def opened(path, count=1):
    source = SOURCES.get("folder")
    return source.open(source.options(path=path), count=count, seed=0)


def test_files_are_taken_by_name(tmp_path):
    for value, name in enumerate(["c.png", "a.bmp", "b.webp"]):
        save(tmp_path / name, value=value * 10, **({"lossless": True} if name == "b.webp" else {}))
    assert [crop[0, 0, 0] for crop in load_crops(opened(tmp_path, count=3))] == [10, 20, 0]


def test_fewer_images_are_spread_over_the_folder(tmp_path):
    for value in range(10):
        save(tmp_path / f"{value}.png", value=value)
    assert [crop[0, 0, 0] for crop in load_crops(opened(tmp_path, count=3))] == [0, 3, 6]


def test_other_files_are_left_alone(tmp_path):
    save(tmp_path / "a.JPG", format="JPEG")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "sub.png").mkdir()
    assert len(opened(tmp_path)) == 1


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
def test_other_modes_become_rgb(tmp_path, mode):
    Image.new(mode, (112, 112)).save(tmp_path / "a.png")
    assert opened(tmp_path).crop(0).shape == (112, 112, 3)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CalibrationError, match="no such folder") as raised:
        opened(tmp_path / "nowhere")
    assert "nowhere" in str(raised.value)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(CalibrationError, match="holds no calibration images"):
        opened(tmp_path)


def test_too_few_images_are_counted(tmp_path):
    save(tmp_path / "a.png")
    with pytest.raises(CalibrationError, match="2 calibration images were asked for and the folder holds 1"):
        opened(tmp_path, count=2)


def test_a_wrong_size_names_file_and_size(tmp_path):
    save(tmp_path / "wide.png", size=(160, 112))
    with pytest.raises(CalibrationError, match="160x112, not square") as raised:
        opened(tmp_path)
    assert "wide.png" in str(raised.value)


def test_crops_of_other_sides_are_resized_and_counted(tmp_path):
    drawn = draw("drawings", 1)[0]
    Image.fromarray(drawn).resize((224, 224), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    Image.fromarray(drawn).save(tmp_path / "b.png")
    source, options = SOURCES.get("folder"), FolderOptions(path=tmp_path)
    large, usual = load_crops(source.open(options, count=2, seed=0))
    assert np.array_equal(usual, drawn)
    difference = np.abs(large.astype(int) - usual).mean()
    assert difference < 2, difference
    warnings = source.provenance(options, count=2).warnings
    assert warnings == ("1 of 2 images are 224x224 and were resized",)


def test_crops_are_taken_into_the_frame_that_is_asked_for(tmp_path):
    drawn = draw("drawings", 1)[0]
    Image.fromarray(drawn).save(tmp_path / "a.png")
    frame = Frame("dlib", (150, 150))
    source = SOURCES.get("folder")
    framed = source.open(source.options(path=tmp_path), count=1, seed=0, frame=frame).crop(0)
    assert np.array_equal(framed, frame.take(drawn))


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"GIF89a nonsense")
    with pytest.raises(CalibrationError, match="cannot be decoded") as raised:
        opened(tmp_path)
    assert "broken.png" in str(raised.value)


def test_a_truncated_file_is_named(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (112, 112, 3), dtype=np.uint8)).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CalibrationError, match="cannot be decoded") as raised:
        opened(tmp_path).crop(0)
    assert "cut.png" in str(raised.value)


@pytest.mark.parametrize("side", [12_000, 200_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + b"\0" * 4)
    with pytest.raises(CalibrationError) as raised:
        opened(tmp_path)
    assert "bomb.png" in str(raised.value)
