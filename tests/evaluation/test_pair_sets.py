"""Verification sets from end to end: what is there is decoded, what a stranger made up is refused and runs nothing."""

import io
import os
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from fakes import FakeModel
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiers import in_tiers

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation import embed_images, read_pairs


def pixels(seed, width=112, height=112):
    """Return a smooth picture, which JPEG keeps."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def encoded(seed, form="JPEG", **size):
    stream = io.BytesIO()
    Image.fromarray(pixels(seed, **size)).save(stream, form, **({"quality": 95} if form == "JPEG" else {}))
    return stream.getvalue()


def write(folder, images, same=None, name="lfw.bin"):
    path = folder / name
    path.write_bytes(pickle.dumps((images, [True, False] * (len(images) // 4) if same is None else same), protocol=2))
    return path


def test_each_different_image_is_there_once_and_keeps_its_place(tmp_path):
    a, b, c = (encoded(seed, "PNG") for seed in range(3))
    found = read_pairs(write(tmp_path, [a, b, b, c]), folds=2)
    assert len(found.images) == 3
    assert all(np.array_equal(found.images.crop(seed), pixels(seed)) for seed in range(3))
    assert (found.pairs.first.tolist(), found.pairs.second.tolist()) == ([0, 1], [1, 2])
    # The third different image is the fourth of the file's list.
    assert found.images.name(2) == "image 3 of lfw.bin"


def test_the_report_gets_the_files_name_and_not_the_way_to_it(tmp_path):
    found = read_pairs(write(tmp_path, [encoded(seed) for seed in range(4)]), folds=2)
    assert {key: found.description[key] for key in ("kind", "name", "images", "pairs", "folds")} == {
        "kind": "pairs",
        "name": "lfw.bin",
        "images": 4,
        "pairs": 2,
        "folds": 2,
    }
    assert str(tmp_path) not in str(found.description)


def test_the_sets_fingerprint_is_of_images_pairs_and_flags(tmp_path):
    a, b, c, d = (encoded(seed) for seed in range(4))
    sets = [
        ([a, b, c, d], [True, False]),
        ([a, b, c, d], [False, True]),
        ([a, b, d, c], [True, False]),
        ([a, c, b, d], [True, False]),
    ]
    prints = [read_pairs(write(tmp_path, *one), folds=2).description["sha256"] for one in sets]
    assert len(set(prints)) == 4
    assert prints[0] == read_pairs(write(tmp_path, *sets[0]), folds=2).description["sha256"]


def test_arrays_of_pixels_are_taken_as_they_are(tmp_path):
    grey = pixels(1)[:, :, 0].copy()
    found = read_pairs(write(tmp_path, [pixels(0), grey, pixels(2), pixels(3)]), folds=2)
    assert np.array_equal(found.images.crop(0), pixels(0))
    assert np.array_equal(found.images.crop(1), np.repeat(grey[:, :, None], 3, axis=2))
    assert len({found.images.digest(index) for index in range(4)}) == 4


def test_a_square_image_of_another_size_is_resized_and_said(tmp_path):
    images = [encoded(seed, "PNG", width=160, height=160) for seed in range(2)] + [encoded(2), encoded(3)]
    found = read_pairs(write(tmp_path, images), folds=2)
    assert found.notes == ("2 of 4 images are 160x160 and were resized",)
    assert np.abs(found.images.crop(0).astype(int) - pixels(0)).mean() < 2


@pytest.mark.parametrize("size", [(112, 96), (96, 112), (160, 112)])
def test_an_image_that_is_not_square_is_refused(tmp_path, size):
    images = [encoded(0), encoded(1), encoded(2), encoded(3, width=size[0], height=size[1])]
    with pytest.raises(MeasurementError, match=f"{size[0]}x{size[1]} pixels, not square") as raised:
        read_pairs(write(tmp_path, images), folds=2)
    assert raised.value.where == "image 3 of lfw.bin"


@pytest.mark.parametrize("array", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 1), np.uint8)], ids=["four", "one"])
def test_pixels_of_another_number_of_channels_are_refused(tmp_path, array):
    with pytest.raises(MeasurementError, match="not \\[height, width, 3\\]"):
        read_pairs(write(tmp_path, [encoded(0), array, encoded(1), encoded(2)]), folds=2)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_truncated_image_is_named_by_its_place(tmp_path, form):
    images = [encoded(seed, form) for seed in range(20)]
    images[17] = images[17][: len(images[17]) * 2 // 3]
    found = read_pairs(write(tmp_path, images), folds=2)
    with pytest.raises(MeasurementError, match="cannot be decoded") as raised:
        embed_images(FakeModel().opened(), found.images, batch=4, threads=2)
    assert raised.value.where == "image 17 of lfw.bin"


@given(st.binary(max_size=60), st.integers(0, 1), st.integers(0, 400))
@settings(deadline=None, max_examples=150)
def test_a_damaged_image_is_decoded_or_refused_in_our_words(tmp_path_factory, noise, form, at):
    image = encoded(0, ("JPEG", "PNG")[form])
    images = [image[:at] + noise + image[at + len(noise) :], *(encoded(seed) for seed in range(1, 4))]
    try:
        found = read_pairs(write(tmp_path_factory.mktemp("pairs"), images), folds=2)
        assert found.images.crop(0).shape == (112, 112, 3)
    except MeasurementError as error:
        assert error.where == "image 0 of lfw.bin"
        assert error.fix


@pytest.mark.parametrize("form", ["BMP", "PNG", "WEBP"])
def test_images_may_be_of_the_formats_that_folders_may_have(tmp_path, form):
    found = read_pairs(write(tmp_path, [encoded(seed, form) for seed in range(4)]), folds=2)
    assert found.images.crop(0).shape == (112, 112, 3)


@pytest.mark.parametrize("form", ["GIF", "PPM", "TIFF"])
def test_other_formats_are_not_tried(tmp_path, form):
    with pytest.raises(MeasurementError, match="cannot be decoded"):
        read_pairs(write(tmp_path, [encoded(0, form), encoded(1), encoded(2), encoded(3)]), folds=2)


def test_an_image_that_announces_a_huge_size_is_refused_before_it_is_decoded(tmp_path):
    stream = io.BytesIO()
    Image.new("1", (9000, 9000)).save(stream, "PNG")
    with pytest.raises(MeasurementError, match="9000x9000"):
        read_pairs(write(tmp_path, [stream.getvalue(), encoded(1), encoded(2), encoded(3)]), folds=2)


@pytest.mark.parametrize("folds", [-1, 0, 1, 3])
def test_pairs_that_cannot_be_cut_into_the_folds_are_said(tmp_path, folds):
    with pytest.raises(MeasurementError, match=f"2 pairs cannot be cut into {folds} folds"):
        read_pairs(write(tmp_path, [encoded(seed) for seed in range(4)]), folds=folds)


@pytest.mark.parametrize(("images", "flags"), [(3, 1), (3, 2), (2, 2), (4, 1), (0, 0)])
def test_odd_counts_are_refused(tmp_path, images, flags):
    with pytest.raises(MeasurementError, match=f"{images} images for {flags} pairs"):
        read_pairs(write(tmp_path, [encoded(0)] * images, [True] * flags))


class Runs:
    """Pickles to a call of os.system."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("place", ["image", "flag", "whole"])
@pytest.mark.parametrize("protocol", range(6))
def test_os_system_is_not_run(tmp_path, place, protocol):
    canary = tmp_path / "canary"
    attack = Runs(f"touch {canary}")
    whole = {"image": ([attack, b""], [True]), "flag": ([b"", b""], [attack]), "whole": attack}
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps(whole[place], protocol))
    with pytest.raises(MeasurementError, match="no pairs file"):
        read_pairs(path)
    assert not canary.exists()
    # The attack is a real one.
    subprocess.run([sys.executable, "-c", f"import pickle; pickle.load(open({str(path)!r}, 'rb'))"], check=False)
    assert canary.exists()


class Stranger:
    """A class that no set needs."""


HUGE = {
    "class": pickle.dumps(([Stranger(), b""], [True])),
    "deep nesting": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "huge list": b"\x80\x02]" + b"(" + b"K\x01" * 900_000 + b"e.",
    "announced size": b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little"),
    "doubling": b"\x80\x02]q\x00" + b"(h\x00h\x00e" * 100_000 + b".",
}


@pytest.mark.parametrize("kind", in_tiers(HUGE, fast=("class", "deep nesting", "announced size")))
def test_a_hostile_pickle_is_refused_in_little_memory(tmp_path, kind):
    path = tmp_path / "lfw.bin"
    path.write_bytes(HUGE[kind])
    tracemalloc.start()
    try:
        with pytest.raises(MeasurementError, match="no pairs file"):
            read_pairs(path)
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()
