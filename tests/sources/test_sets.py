"""Named calibration sets: every mistake told at once, and a folder on disk that is whole or absent."""

import json

import numpy as np
import pytest
from PIL import Image
from tiers import in_tiers

from qface_toolkit.errors import ArtifactError, CalibrationError, RecipeError, UnknownName
from qface_toolkit.sources import contact_sheet, find_set, load_crops, pixel_sha256, set_names, write_set
from qface_toolkit.sources._sets import NamedSet, read_set

NOISE = NamedSet(kind="noise", count=5, licence="Apache-2.0")


def pixels(file):
    with Image.open(file) as image:
        return np.array(image)


@pytest.mark.parametrize("name", in_tiers(set_names(), fast=[name for name in set_names() if name != "matched"]))
def test_the_sets_that_come_along_open(name, tiny_float):
    named = find_set(name)
    assert named.licence == "Apache-2.0"
    assert named.open(count=2, model=tiny_float).crop(0).shape == (112, 112, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in set_names() if find_set(name).kind != "matched"])
def test_the_sets_that_come_along_have_the_pixels_they_promise(name):
    named = find_set(name)
    assert pixel_sha256(load_crops(named.open())) == named.checksum


def test_calibration_and_heldout_share_no_attribute_value():
    calibration, heldout = find_set("drawings"), find_set("drawings-heldout")
    assert calibration.parameters["attributes"] != heldout.parameters["attributes"]


def test_a_misspelt_name_is_answered_with_the_right_one():
    with pytest.raises(UnknownName, match="'drawing'") as raised:
        find_set("drawing")
    assert "did you mean drawings?" in str(raised.value)


def test_a_users_file_is_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("kind: noise\ncount: 3\n")
    assert find_set(str(path)).count == 3


def test_every_mistake_is_told_at_once():
    values = {
        "kind": "procedural",
        "parameters": {"images_per_identity": 0, "attributes": "both", "eyes": 3},
        "count": 0,
        "checksum": "abc",
        "colour": "blue",
    }
    with pytest.raises(RecipeError, match="6 mistake") as raised:
        read_set(values, where="mine.yaml")
    message = str(raised.value)
    options = ("images_per_identity", "attributes", "eyes")
    for key in (*(f"parameters.{option}" for option in options), "count", "checksum", "colour"):
        assert f"\n  {key}: " in message


@pytest.mark.parametrize("values", [None, [], "drawings", 3])
def test_a_file_that_is_no_mapping_is_refused(values):
    with pytest.raises(RecipeError, match="1 mistake"):
        read_set(values, where="mine.yaml")


def test_an_unknown_kind_is_a_mistake_among_others():
    with pytest.raises(RecipeError) as raised:
        read_set({"kind": "prozedural"}, where="mine.yaml")
    assert "kind: there is no calibration source called 'prozedural'; did you mean procedural?" in str(raised.value)
    assert "count: " in str(raised.value)


@pytest.mark.parametrize(
    "content", [b"kind: [", b"\xff\xfe\x00", b"a: &a [x]\nb: *a"], ids=["no yaml", "no text", "anchors"]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match="not YAML|not UTF-8") as raised:
        find_set(str(path))
    assert "bad.yaml" in str(raised.value)


def test_a_written_set_can_be_read_back(tmp_path):
    manifest = write_set(NOISE, tmp_path / "out", count=4, seed=9)
    written = [pixels(file) for file in sorted((tmp_path / "out" / "images").iterdir())]
    assert pixel_sha256(np.stack(written)) == manifest.sha256 == pixel_sha256(load_crops(NOISE.open(4, 9)))
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["sha256"] == manifest.sha256
    assert (manifest.count, manifest.seed, manifest.contains_no_real_face_data) == (4, 9, True)
    assert np.array_equal(pixels(tmp_path / "out" / "contact_sheet.png"), np.array(contact_sheet(np.stack(written))))


@pytest.mark.parametrize("count", [0, -1])
def test_no_images_are_refused(tmp_path, count):
    with pytest.raises(CalibrationError, match="ask for one at least"):
        write_set(NOISE, tmp_path / "out", count=count)
    with pytest.raises(CalibrationError, match="ask for one at least"):
        NOISE.open(count=count)


def test_an_existing_folder_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="exists"):
        write_set(NOISE, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_run_that_breaks_off_leaves_nothing(tmp_path, monkeypatch, error):
    def fail(shown):
        raise error

    monkeypatch.setattr("qface_toolkit.sources._sets._sheet", fail)
    with pytest.raises((ArtifactError, KeyboardInterrupt)):
        write_set(NOISE, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="of this name already") as raised:
        write_set(NOISE, tmp_path / "file" / "out")
    assert str(tmp_path / "file") in str(raised.value)


def test_other_pixels_than_the_checksums_are_told(tmp_path):
    wrong = NOISE.model_copy(update={"checksum": "0" * 64})
    assert "checksum" in write_set(wrong, tmp_path / "a").warnings[0]
    assert write_set(wrong, tmp_path / "b", count=2).warnings == ()


def test_a_contact_sheet_shows_the_crops_in_order():
    crops = np.zeros((3, 112, 112, 3), np.uint8)
    crops[:, :, :, 0] = np.array([10, 20, 30])[:, None, None]
    sheet = np.array(contact_sheet(crops, columns=2))
    assert [sheet[60, 60, 0], sheet[60, 180, 0], sheet[180, 60, 0]] == [10, 20, 30]
    assert tuple(sheet[180, 180]) == (245, 245, 245)
