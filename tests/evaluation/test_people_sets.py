"""Folders of people: who is who by the folder's name alone, and nothing from outside of it."""

import numpy as np
import pytest
from fakes import FakeModel
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_pair_sets import encoded, pixels

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation import embed_images, read_groups, read_people, synthetic_people
from qface_toolkit.framing import Frame
from qface_toolkit.sources import find_set, load_crops


@pytest.fixture
def folder(tmp_path):
    """Three people with three, two and one image."""
    for seed, path in enumerate(["eve/b.png", "eve/a.png", "eve/c.png", "bob/2.png", "bob/1.png", "zoe/x.png"]):
        file = tmp_path / "people" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(seed, "PNG"))
    return tmp_path / "people"


def test_people_and_their_images_are_sorted_by_name(folder):
    found = read_people(folder)
    assert found.people == ("bob", "eve", "zoe")
    assert found.paths == ("bob/1.png", "bob/2.png", "eve/a.png", "eve/b.png", "eve/c.png", "zoe/x.png")
    assert found.owners.tolist() == [0, 0, 1, 1, 1, 2]
    order = [4, 3, 1, 0, 2, 5]
    assert all(np.array_equal(found.images.crop(at), pixels(seed)) for at, seed in enumerate(order))
    assert found.notes == ()
    assert {key: found.description[key] for key in ("kind", "name", "images", "people")} == {
        "kind": "people",
        "name": "people",
        "images": 6,
        "people": 3,
    }


def test_every_usual_format_is_read(tmp_path):
    for number, suffix in enumerate((".jpg", ".JPEG", ".png", ".webp", ".bmp")):
        file = tmp_path / str(number // 3) / f"{number}{suffix}"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels(number)).save(file)
    found = read_people(tmp_path)
    assert embed_images(FakeModel().opened(), found.images).shape == (5, 4)


def test_the_cap_keeps_the_first_by_name(folder):
    found = read_people(folder, per_identity=2)
    assert found.paths == ("bob/1.png", "bob/2.png", "eve/a.png", "eve/b.png", "zoe/x.png")
    assert found.left_out == {"eve/c.png"}
    assert found.notes == ("images that the cap on images a person left out: 1",)
    assert found.description["per_identity"] == 2
    assert found.description["sha256"] != read_people(folder).description["sha256"]


def test_the_fingerprint_is_of_names_and_contents(folder):
    before = read_people(folder).description["sha256"]
    (folder / "zoe" / "x.png").rename(folder / "zoe" / "y.png")
    renamed = read_people(folder).description["sha256"]
    (folder / "zoe" / "y.png").write_bytes(encoded(77, "PNG"))
    assert len({before, renamed, read_people(folder).description["sha256"]}) == 3


def test_hidden_files_other_files_and_links_to_elsewhere_are_ignored(folder, tmp_path):
    expected = read_people(folder).paths
    (tmp_path / "secret.png").write_bytes(encoded(0, "PNG"))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.png").write_bytes(encoded(0, "PNG"))
    (folder / "bob" / ".hidden.png").write_bytes(b"")
    (folder / "bob" / "notes.txt").write_bytes(b"")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.png").write_bytes(b"")
    (folder / "empty").mkdir()
    (folder / "bob" / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "bob" / "nowhere.png").symlink_to(tmp_path / "gone.png")
    found = read_people(folder)
    assert found.paths == expected
    assert found.notes == ("links that lead out of the folder, which were not followed: 3",)


def test_an_image_under_two_people_is_said(folder):
    (folder / "zoe" / "same.png").write_bytes((folder / "bob" / "1.png").read_bytes())
    (folder / "zoe" / "loop.png").symlink_to("loop.png")
    assert read_people(folder).notes == ("images that stand under several people, each a false accept of any model: 1",)


def test_a_name_that_is_no_text_still_fits_a_report(folder):
    odd = folder.rename(folder.with_name("caf\udce9"))
    assert read_people(odd).description["name"] == "caf?"


def test_a_link_inside_the_folder_is_followed(folder):
    (folder / "bob" / "link.png").symlink_to(folder / "bob" / "1.png")
    assert "bob/link.png" in read_people(folder).paths


def test_images_beside_the_folders_are_said(folder):
    (folder / "loose.jpg").write_bytes(b"")
    assert read_people(folder).notes == ("images beside the people's folders, which were not used: 1",)


def test_crops_of_other_sides_are_resized_and_said(folder):
    (folder / "eve" / "c.png").write_bytes(encoded(2, "PNG", width=160, height=160))
    found = read_people(folder)
    assert found.notes == ("images that are not 112x112 and were resized: 1",)
    assert np.abs(found.images.crop(4).astype(int) - pixels(2)).mean() < 2


@pytest.mark.parametrize("frame", [Frame("dlib", (150, 150)), Frame("none", (32, 32))], ids=str)
def test_crops_are_taken_into_a_models_frame(folder, frame):
    images = read_people(folder).images
    assert np.array_equal(images.crop(3, frame), frame.take(pixels(0)))


def test_people_are_drawn_in_a_models_frame():
    frame = Frame("facenet", (160, 160))
    images = synthetic_people(2, 2).images
    middle = slice(40, 120)
    taken, drawn = (one[middle, middle].ravel() for one in (frame.take(images.crop(1)), images.crop(1, frame)))
    assert np.corrcoef(taken, drawn)[0, 1] > 0.8
    assert images.crop(1, frame).shape == (160, 160, 3)
    assert np.array_equal(images.crop(1, frame), images.crop(1, frame))
    assert images.crop(1).shape == (112, 112, 3)


def test_an_image_that_is_not_square_is_named(folder):
    (folder / "eve" / "c.png").write_bytes(encoded(0, "PNG", width=112, height=96))
    with pytest.raises(MeasurementError, match="112x96 pixels, not square") as raised:
        read_people(folder)
    assert raised.value.where == str(folder / "eve" / "c.png")


def test_a_damaged_image_is_named(folder):
    file = folder / "eve" / "c.png"
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(MeasurementError, match="cannot be decoded") as raised:
        embed_images(FakeModel().opened(), read_people(folder).images)
    assert raised.value.where == str(file)


def test_an_image_that_goes_away_is_named(folder):
    found = read_people(folder)
    (folder / "eve" / "c.png").unlink()
    with pytest.raises(MeasurementError, match="no such image") as raised:
        embed_images(FakeModel().opened(), found.images)
    assert raised.value.where == str(folder / "eve" / "c.png")


def test_an_image_that_changes_meanwhile_is_named(folder):
    found = read_people(folder)
    file = folder / "eve" / "c.png"
    file.write_bytes((folder / "bob" / "1.png").read_bytes() + b" ")
    with pytest.raises(MeasurementError, match="has changed since") as raised:
        embed_images(FakeModel().opened(), found.images)
    assert raised.value.where == str(file)


def test_one_person_only_is_said(folder):
    for name in ("bob", "zoe"):
        (folder / name).rename(folder / f".{name}")
    with pytest.raises(MeasurementError, match="one person only, 'eve'"):
        read_people(folder)


def test_no_person_twice_is_said(folder):
    with pytest.raises(MeasurementError, match="no pair shows the same person"):
        read_people(folder, per_identity=1)


@pytest.mark.parametrize("cap", [0, -1])
def test_a_cap_below_one_is_refused(folder, cap):
    with pytest.raises(MeasurementError, match="images a person were asked for"):
        read_people(folder, per_identity=cap)


@pytest.mark.parametrize("name", ["missing", "eve/a.png", "eve"])
def test_what_is_no_folder_of_people_is_said(folder, name):
    with pytest.raises(MeasurementError) as raised:
        read_people(folder / name)
    assert raised.value.fix


def groups_of(folder, text, **options):
    table = folder.parent / "groups.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_groups(table, read_people(folder, **options))


ALL = "bob,old\neve,young\nzoe,old\n"


@pytest.mark.parametrize(
    "text",
    [
        ALL,
        "image,group\n" + ALL,
        ALL.replace("\n", "\r\n"),
        "\ufeff" + ALL,
        "Image, Group\n\n" + ALL.replace(",", " , "),
        "1.png,old\n2.png,old\neve,young\nzoe/x.png,old\n",
        '"bob","old"\n./eve,young\nx.png,old',
    ],
    ids=["people", "header", "windows", "mark", "blanks", "files", "quotes"],
)
def test_images_files_and_people_can_be_named(folder, text):
    found = groups_of(folder, text)
    assert found.names == ("old", "young")
    assert found.of_image.tolist() == [0, 0, 1, 1, 1, 0]
    assert found.notes == ()


def test_an_images_own_line_goes_before_its_persons(folder):
    for text in ("bob,old\nbob/1.png,young\neve,old\nzoe,old", "bob/1.png,young\nbob,old\neve,old\nzoe,old"):
        assert groups_of(folder, text).of_image.tolist() == [1, 0, 0, 0, 0, 0]


def test_images_without_a_group_are_said(folder):
    found = groups_of(folder, "bob,old\n")
    assert found.of_image.tolist() == [0, 0, -1, -1, -1, -1]
    assert found.notes == ("4 of 6 images are in no group",)


def test_an_image_that_the_cap_left_out_may_be_named(folder):
    found = groups_of(folder, "eve/c.png,young\n" + ALL, per_identity=2)
    assert found.of_image.tolist() == [0, 0, 1, 1, 0]


BAD_TABLES = {
    "unknown": ("bob,old\nmallory,old\n", "names 'mallory'"),
    "ambiguous": ("same.png,old\n", "names 'same.png'"),
    "twice": ("bob,old\neve,old\nbob,old\n", "'bob' has two lines"),
    "twice by two names": ("bob/1.png,old\n1.png,young\n", "'bob/1.png' has two lines"),
    "one field": ("bob\n", "has 1 fields"),
    "three fields": ("bob,old,er\n", "has 3 fields"),
    "no group": ("bob,\n", "or an empty one"),
    "header alone": ("image,group\n", "no image into a group|is empty"),
    "nothing": ("", "no image into a group|is empty"),
    "not text": (b"bob,\xff\xfe\n", "cannot be read"),
    "zeros": (b"bob,\0\n\0", "table of groups"),
    "open quote": ('bob,"old\n', "cannot be read"),
    "huge field": ("bob," + "x" * 200_000, "cannot be read"),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_a_table_with_mistakes_is_refused(folder, kind):
    for name in ("bob", "eve"):
        (folder / name / "same.png").write_bytes(encoded(9, "PNG"))
    text, message = BAD_TABLES[kind]
    with pytest.raises(MeasurementError, match=message) as raised:
        groups_of(folder, text)
    assert "groups.csv" in raised.value.where
    assert raised.value.fix


def test_the_line_of_a_mistake_is_named(folder):
    with pytest.raises(MeasurementError) as raised:
        groups_of(folder, "image,group\nbob,old\nmallory,old\n")
    assert raised.value.where.endswith("groups.csv, line 3")


def test_too_many_groups_are_refused(folder):
    for number in range(101):
        (folder / "eve" / f"{number}.png").write_bytes(encoded(number, "PNG"))
    with pytest.raises(MeasurementError, match="101 groups"):
        groups_of(folder, "".join(f"eve/{number}.png,{number}\n" for number in range(101)))


@pytest.fixture(scope="module")
def drawn():
    return synthetic_people(3, 2)


TEXTS = st.text(st.sampled_from('dran-0123/,"\n\r\0 '), max_size=40).map(str.encode)


@given(content=st.binary(max_size=60) | TEXTS)
@settings(deadline=None, max_examples=150)
def test_any_table_is_read_or_refused_in_our_words(drawn, tmp_path_factory, content):
    table = tmp_path_factory.getbasetemp() / "any.csv"
    table.write_bytes(content)
    try:
        assert len(read_groups(table, drawn).of_image) == 6
    except MeasurementError as error:
        assert error.fix


def test_drawings_are_those_of_the_held_out_set(drawn):
    images = synthetic_people().images
    held_out = find_set("drawings-heldout").open()
    assert len(images) == len(held_out)
    assert np.array_equal(load_crops(images, range(7, 10)), load_crops(held_out, range(7, 10)))


def test_drawings_say_that_they_are_drawings(drawn):
    assert drawn.description["kind"] == "drawings"
    assert any("drawings" in note for note in drawn.notes)
    assert drawn.owners.tolist() == [0, 0, 1, 1, 2, 2]
    assert len({drawn.images.digest(index) for index in range(6)} | {synthetic_people(3, 2, 8).images.digest(0)}) == 7


@pytest.mark.parametrize("counts", [(1, 8), (8, 1), (0, 0)])
def test_too_few_drawings_are_refused(counts):
    with pytest.raises(MeasurementError, match="cannot be compared"):
        synthetic_people(*counts)
