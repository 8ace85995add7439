"""Typology angles: known colours, crops of one colour, what is no skin, and the classes' edges."""

import numpy as np
import pytest

from qface_toolkit.scoring.skin_tone import BROAD, TONES, angle_of, broad_tone, to_lab, tones_of, typology_angle


def plain(*colour):
    return np.full((112, 112, 3), colour, np.uint8)


@pytest.mark.parametrize(
    ("colour", "lab"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0, 0)),
    ],
)
def test_colours_in_cielab(colour, lab):
    assert to_lab([colour])[0] == pytest.approx(lab, abs=0.02)


def test_an_angle_is_that_of_its_definition():
    assert angle_of(np.array([70.0, 12.0, 20.0])) == pytest.approx(45)
    assert angle_of(np.array([30.0, 12.0, 20.0])) == pytest.approx(-45)


def test_light_skin_has_a_larger_angle_than_dark():
    light, tan, dark = (typology_angle(plain(*colour)) for colour in ((240, 205, 180), (190, 138, 100), (90, 58, 42)))
    assert light > 41 > tan > dark and dark < -30


def test_only_the_cheeks_count():
    crop = plain(0, 0, 255)
    crop[66:80, 28:42] = crop[66:80, 70:84] = (190, 138, 100)
    assert typology_angle(crop) == typology_angle(plain(190, 138, 100))


@pytest.mark.parametrize("colour", [(128, 128, 128), (100, 138, 190), (30, 200, 30), (0, 0, 0), (255, 255, 255)])
def test_what_is_no_skin_has_no_angle(colour):
    assert np.isnan(typology_angle(plain(*colour)))


def test_classes_touch_and_hold_their_lower_edge():
    assert [(one.high, other.low) for one, other in zip(TONES, TONES[1:], strict=False)] == [
        (edge, edge) for edge in (-30, 10, 28, 41, 55)
    ]
    angles = np.array([-90, -30, 9.9, 10, 28, 41, 55, 90, np.nan])
    assert tones_of(angles).tolist() == [0, 1, 1, 2, 3, 4, 5, 5, -1]
    assert [broad_tone(angle) for angle in (-40, 10, 41, np.nan)] == [*(name for name, _, _ in BROAD), ""]
