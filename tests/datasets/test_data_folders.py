"""Folders of crops as training data: labels by folder, odd names and sizes, and links that lead elsewhere."""

import os

import pytest
from encoded import encoded, shown

from qface_toolkit.datasets import open_data
from qface_toolkit.errors import CalibrationError


@pytest.fixture
def people(tmp_path):
    """Return a folder of two people, one empty folder and some files that are none of theirs."""
    for path, number in (("ann/1.png", 1), ("ann/2.PNG", 2), ("bob/a.png", 3)):
        (tmp_path / "faces" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "faces" / path).write_bytes(encoded(number))
    (tmp_path / "faces" / "aaron").mkdir()
    (tmp_path / "faces" / "ann" / "notes.txt").write_text("no image")
    (tmp_path / "faces" / "ann" / ".hidden.png").write_bytes(b"no image")
    return tmp_path / "faces"


def test_people_are_labelled_by_their_folders(people):
    data = open_data(str(people))
    assert (data.kind, data.name, data.identities, len(data)) == ("people", "faces", 2, 3)
    assert shown(data) == ([1, 2, 3], [0, 0, 1])


def test_links_out_of_the_folder_are_not_followed(people, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "9.png").write_bytes(encoded(5))
    (people / "zoe").symlink_to(tmp_path / "out")
    (people / "ann" / "9.png").symlink_to(tmp_path / "out" / "9.png")
    (people / "bob" / "same.png").symlink_to(people / "bob" / "a.png")
    (people / "bob" / "gone.png").symlink_to(people / "bob" / "nothing.png")
    assert shown(open_data(str(people))) == ([1, 2, 3, 3], [0, 0, 1, 1])


def test_a_folder_that_is_a_link_itself_is_read(people, tmp_path):
    (tmp_path / "link").symlink_to(people)
    assert len(open_data(str(tmp_path / "link"))) == 3


def test_one_identity_is_refused_by_name(people):
    (people / "bob" / "a.png").unlink()
    with pytest.raises(CalibrationError, match="one identity only, 'ann'"):
        open_data(str(people))


def test_a_broken_image_is_named_and_others_are_read(people):
    (people / "ann" / "1.png").write_bytes(encoded(1)[:60])
    (people / "ann" / "2.PNG").write_bytes(encoded(2, size=(112, 96)))
    data = open_data(str(people))
    with pytest.raises(CalibrationError, match="cannot be decoded") as caught:
        data.example(0)
    assert caught.value.where.endswith("ann/1.png")
    with pytest.raises(CalibrationError, match="96x112 pixels, not square") as caught:
        data.example(1)
    assert caught.value.where.endswith("ann/2.PNG")
    assert data.example(2).label == 1


def test_an_image_that_is_gone_is_named(people):
    data = open_data(str(people))
    (people / "bob" / "a.png").unlink()
    with pytest.raises(CalibrationError, match="there is no such image"):
        data.example(2)
    with pytest.raises(CalibrationError, match="cannot be read"):
        data.fingerprint()


def test_square_crops_of_other_sizes_are_resized(people):
    (people / "ann" / "1.png").write_bytes(encoded(4, "BMP", (224, 224)))
    data = open_data(str(people))
    assert data.example(0).crop.shape == (112, 112, 3)
    assert shown(data)[0] == [4, 2, 3]


def test_names_that_are_not_text_are_read(people):
    name = os.fsencode(people / "bob") + b"/\xff\xfe.png"
    with open(name, "wb") as file:  # noqa: PTH123 - a Path cannot say it
        file.write(encoded(5))
    assert shown(open_data(str(people))) == ([1, 2, 3, 5], [0, 0, 1, 1])


def test_a_flat_folder_has_no_labels(people):
    data = open_data(str(people / "ann"))
    assert (data.kind, data.name, data.identities) == ("crops", "ann", 0)
    assert shown(data) == ([1, 2], [-1, -1])


def test_images_beside_folders_of_people_are_not_theirs(people):
    (people / "sheet.png").write_bytes(encoded(5))
    assert shown(open_data(str(people)))[0] == [1, 2, 3]


def test_fingerprints_differ_where_folders_do(people):
    found = {open_data(str(people)).fingerprint()}
    (people / "ann" / "1.png").write_bytes(encoded(1, "JPEG"))
    found.add(open_data(str(people)).fingerprint())
    (people / "ann" / "2.PNG").rename(people / "bob" / "2.PNG")
    found.add(open_data(str(people)).fingerprint())
    (people / "bob").rename(people / "carl")
    found.add(open_data(str(people)).fingerprint())
    assert len(found) == 4
    assert open_data(str(people)).fingerprint() in found


def test_a_folder_without_images_is_said_to_be_one(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CalibrationError, match="neither aligned crops nor folders of them"):
        open_data(str(tmp_path))
