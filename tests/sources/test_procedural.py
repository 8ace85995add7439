"""The drawings: the same everywhere, as varied as asked for, and split so that a model can be tested honestly."""

import os
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from qface_toolkit.framing import STANDARD, Frame
from qface_toolkit.sources import load_crops, pixel_sha256, procedural
from qface_toolkit.sources._identity import BANDS, Face, Mark, band_of, draw_identity, traits
from qface_toolkit.sources.procedural import Drawings, ProceduralOptions

GOLDEN = {
    "calibration": "16b3a40e89e5666762f06c70ffcb0c361db7066b8afad3090fb880067cd5babb",
    "heldout": "a837f001c22aac649026f26923978d4dd24b6e0f1a03567ef78c0d59ce327e3c",
}
"""SHA-256 of the decoded pixels of six drawings, made with PINNED_VERSIONS; draw them again only on purpose."""


def drawings(count=6, seed=11, frame=STANDARD, **options):
    return Drawings(ProceduralOptions(**options), count=count, seed=seed, frame=frame)


def shares(kind, value):
    for attribute in fields(kind):
        low, high = attribute.metadata["low"], attribute.metadata["high"]
        yield attribute.name, (getattr(value, attribute.name) - low) / (high - low)


@pytest.mark.parametrize("attributes", sorted(GOLDEN))
def test_pixels_are_the_known_ones(attributes):
    crops = load_crops(drawings(images_per_identity=2, attributes=attributes))
    assert pixel_sha256(crops) == GOLDEN[attributes]


def without_vector_instructions(script):
    plain = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name]),
        "JSIMD_FORCENONE": "1",
    }
    opened = "from qface_toolkit.sources import *\nsource = SOURCES.get('procedural')\n"
    command = [sys.executable, "-c", opened + script]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | plain)


def test_a_processor_without_vector_instructions_draws_the_same():
    ran = without_vector_instructions(
        "options = source.options(images_per_identity=2)\n"
        "print(pixel_sha256(load_crops(source.open(options, count=6, seed=11))))"
    )
    assert ran.stdout.strip() == GOLDEN["calibration"], ran.stderr


def test_growing_a_set_changes_none_of_it():
    assert np.array_equal(load_crops(drawings(count=3)), load_crops(drawings(count=6), range(3)))


def test_seeds_draw_other_people():
    assert pixel_sha256(drawings(seed=1).crop(0)) != pixel_sha256(drawings(seed=2).crop(0))


def test_images_of_an_identity_follow_each_other(monkeypatch):
    seen = []
    monkeypatch.setattr(procedural, "draw", lambda seed, index, identity, frame: seen.append(identity))
    load = drawings(images_per_identity=3)
    for index in range(6):
        load.crop(index)
    assert [seen.index(identity) for identity in seen] == [0, 0, 0, 3, 3, 3]


def test_pictures_of_one_person_vary():
    crops = load_crops(drawings(count=6, images_per_identity=6)).astype(float)
    assert np.abs(crops[1:] - crops[:-1]).mean(axis=(1, 2, 3)).min() > 10


@pytest.mark.parametrize(("attributes", "parity"), [("calibration", 0), ("heldout", 1)])
def test_identities_keep_to_their_bands(attributes, parity):
    used = {}
    for number in range(60):
        identity = draw_identity(5, number, attributes)
        for kind, value in ((Face, identity.face), *((Mark, mark) for mark in identity.marks)):
            for name, share in shares(kind, value):
                used.setdefault((kind, name), set()).add(band_of(share))
    wanted = {band for band in range(BANDS) if band % 2 == parity}
    assert all(bands == wanted for bands in used.values())


def test_neighbouring_bands_do_not_touch():
    values = {
        name: np.sort([draw_identity(5, number, name).face.chin for number in range(300)])
        for name in ("calibration", "heldout")
    }
    gaps = np.abs(values["calibration"][:, None] - values["heldout"][None, :])
    assert gaps.min() > 0.01


def test_traits_are_shares_around_zero():
    rows = np.stack([traits(draw_identity(5, number, "calibration")) for number in range(100)])
    assert rows.shape == (100, len(fields(Face)))
    assert -1 <= rows.min() < -0.9
    assert 0.6 < rows.max() <= 1


def test_drawings_have_the_statistics_of_photographs():
    crops = load_crops(drawings(count=48)).astype(float)
    per_image = crops.mean(axis=(1, 2, 3))
    assert 90 < per_image.mean() < 150
    assert per_image.std() > 20
    assert crops.std(axis=(1, 2, 3)).mean() > 35
    # Skin makes faces redder than blue.
    middle = crops[:, 40:90, 35:77].mean(axis=(0, 1, 2))
    assert middle[0] > middle[1] > middle[2]


def test_another_version_is_told(monkeypatch):
    assert procedural.version_warnings() == () or procedural.np.__version__ != procedural.PINNED_VERSIONS["numpy"]
    monkeypatch.setitem(procedural.PINNED_VERSIONS, "pillow", "1.0")
    assert any("pillow" in warning for warning in procedural.version_warnings())


FRAMES = {
    Frame("arcface", (160, 160)): "a74791b511befe20",
    Frame("facenet", (160, 160)): "d72bbd354d2b98fa",
    Frame("dlib", (150, 150)): "5b4af477918bf62b",
    Frame("none", (56, 56)): "9a4acd359b6e59e1",
}
"""The first digits of the SHA-256 of six drawings in each; see GOLDEN."""


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_a_face_is_drawn_where_the_frame_has_it(frame):
    """A drawing in a frame shows the face that the aligned drawing shows when it is taken into the frame."""
    aligned, framed = drawings(), drawings(frame=frame)
    height, width = frame.size
    middle = slice(height // 4, -height // 4), slice(width // 4, -width // 4)
    for index in range(4):
        taken, drawn = (one.astype(float) for one in (frame.take(aligned.crop(index)), framed.crop(index)))
        assert drawn.shape == (height, width, 3)
        here, beside = (
            np.corrcoef(taken[middle].ravel(), np.roll(drawn, by, 1)[middle].ravel())[0, 1] for by in (0, 6)
        )
        assert here > max(0.8, beside), (here, beside)


def test_a_drawing_is_as_wide_and_high_as_asked():
    assert drawings(frame=Frame("none", (48, 96))).crop(0).shape == (48, 96, 3)


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_pixels_in_a_frame_are_the_known_ones(frame):
    assert pixel_sha256(load_crops(drawings(frame=frame)))[:16] == FRAMES[frame]


def test_a_processor_without_vector_instructions_draws_the_same_in_a_frame():
    ran = without_vector_instructions(
        "from qface_toolkit.framing import Frame\n"
        "frame = Frame('dlib', (150, 150))\n"
        "print(pixel_sha256(load_crops(source.open(source.options(), count=6, seed=11, frame=frame)))[:16])"
    )
    assert ran.stdout.strip() == FRAMES[Frame("dlib", (150, 150))], ran.stderr
