"""Groups by skin tone: photographs by their cheeks, drawings by their paint, and crops that are cut elsewhere."""

import numpy as np
import pytest
from PIL import Image

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation import drawn_tones, read_people, synthetic_people, tones_of_photographs
from qface_toolkit.scoring.skin_tone import TONES, angles_of_drawn
from qface_toolkit.sources import find_set

LIGHT, DARK, GREY = (240, 205, 180), (90, 58, 42), (120, 120, 120)


def people(folder, *colours):
    """Write a person of two images for each colour."""
    for number, colour in enumerate(colours):
        one = folder / f"person-{number:02d}"
        one.mkdir(parents=True)
        for name in ("a.png", "b.png"):
            Image.fromarray(np.full((112, 112, 3), colour, np.uint8)).save(one / name)
    return read_people(folder)


def test_photographs_are_told_by_their_cheeks(tmp_path):
    found = tones_of_photographs(people(tmp_path / "people", DARK, LIGHT))
    assert found.names == tuple(tone.name for tone in TONES)
    assert found.of_image.tolist() == [0, 0, 5, 5] or found.of_image.tolist() == [0, 0, 4, 4]
    assert found.notes == ()


def test_images_without_skin_are_counted(tmp_path):
    found = tones_of_photographs(people(tmp_path / "people", GREY, *[DARK] * 9))
    assert found.of_image[:2].tolist() == [-1, -1] and found.of_image[2] == 0
    assert found.notes[0].startswith("2 of 20 images are in no group by skin tone")


def test_crops_that_are_cut_elsewhere_are_refused(tmp_path):
    with pytest.raises(MeasurementError, match="4 of 10 images have no colour of skin") as raised:
        tones_of_photographs(people(tmp_path / "people", GREY, GREY, *[DARK] * 3))
    assert "aligned" in raised.value.fix


def test_drawings_are_told_by_their_paint_and_span_all_tones():
    drawn = synthetic_people()
    found = drawn_tones(drawn)
    people_of = np.bincount(found.of_image, minlength=len(TONES)) / 8
    assert people_of.sum() == 200 and people_of.min() >= 10
    angles = angles_of_drawn(find_set("drawings-heldout"), 200)
    assert np.array_equal(angles_of_drawn(find_set("drawings-heldout"), 3), angles[:3])
