"""insightface's RecordIO is read as MXNet reads it, and each fault of a file is said in words."""

import struct

import numpy as np
import pytest
from encoded import encoded, shown
from record_files import MAGIC, body, insightface, part, write_records

from qface_toolkit.datasets import open_data
from qface_toolkit.errors import CalibrationError

PEOPLE = [[encoded(0), encoded(1)], [encoded(2)], [encoded(3), encoded(4)]]


@pytest.fixture
def rec(tmp_path):
    return write_records(tmp_path / "train.rec", insightface(PEOPLE))


def refused(path, words):
    with pytest.raises(CalibrationError, match=words) as caught:
        open_data(str(path))
    assert caught.value.where
    return caught.value


def changed(path, place, data):
    content = path.read_bytes()
    path.write_bytes(content[:place] + data + content[place + len(data) :])


def offset(path, key):
    lines = path.with_suffix(".idx").read_text().splitlines()
    return int(dict(line.split("\t") for line in lines)[str(key)])


def test_images_and_ranges_of_identities_are_found(rec):
    data = open_data(str(rec))
    assert (data.kind, data.name, data.identities) == ("recordio", "train.rec", 3)
    assert shown(data) == ([0, 1, 2, 3, 4], [0, 0, 1, 2, 2])


def test_a_folder_that_holds_train_rec_is_that_file(rec):
    assert shown(open_data(str(rec.parent))) == shown(open_data(str(rec)))
    assert open_data(str(rec.parent)).name == rec.parent.name


def test_ranges_are_believed_over_headers_that_say_otherwise(tmp_path):
    path = write_records(tmp_path / "x.rec", insightface(PEOPLE, [9, 9, 9, 9, 9]))
    assert open_data(str(path)).labels().tolist() == [0, 0, 1, 2, 2]


def test_headers_count_where_there_are_no_identities(tmp_path):
    bodies = insightface(PEOPLE)[:6]
    path = write_records(tmp_path / "x.rec", [body(labels=[6.0, 6.0]), *bodies[1:]])
    assert shown(open_data(str(path))) == ([0, 1, 2, 3, 4], [0, 0, 1, 2, 2])


def test_headers_count_where_ranges_leave_images_out(tmp_path):
    bodies = [*insightface(PEOPLE, [0, 0, 1, 1, 1])[:-1], body(labels=[4.0, 5.0])]
    path = write_records(tmp_path / "x.rec", bodies)
    assert open_data(str(path)).labels().tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("labels", [[0.0, 1.0, 1.0], [[0.0, 5.0], [1.0, 5.0], [1.0, 5.0]]])
def test_a_file_of_images_alone_is_read(labels, tmp_path):
    bodies = [body(encoded(number), label) for number, label in enumerate(labels)]
    path = write_records(tmp_path / "x.rec", bodies, keys=[0, 40, 7])
    data = open_data(str(path))
    assert data.identities == 2
    assert shown(data) == ([0, 2, 1], [0, 1, 1])


def test_labels_that_are_all_zero_are_none(tmp_path):
    path = write_records(tmp_path / "x.rec", [body(encoded(number)) for number in range(3)])
    data = open_data(str(path))
    assert (data.identities, data.labels()) == (0, None)
    assert shown(data)[1] == [-1, -1, -1]


def test_a_magic_number_inside_an_image_is_put_back(tmp_path):
    # BMP keeps pixels as they are: three of them make four of these words.
    image = bytearray(encoded(1, "BMP"))
    place = 24 + 54 + (-(24 + 54)) % 4 - 24
    image[place : place + 4] = MAGIC
    image[place + 40 : place + 44] = MAGIC
    path = write_records(tmp_path / "x.rec", [body(bytes(image), 0.0), body(encoded(1, "BMP"), 1.0)])
    assert path.read_bytes().count(MAGIC) == 4
    whole = open_data(str(path)).example(0).crop
    assert np.isin(whole.reshape(-1, 3), [0x0A, 0x23, 0xD7, 0xCE]).any()
    assert (whole[:100] == open_data(str(path)).example(1).crop[:100]).all()


def test_parts_that_do_not_follow_each_other_are_named(tmp_path):
    path = write_records(tmp_path / "x.rec", [body(encoded(0), 0.0), body(encoded(1), 1.0)])
    first = body(encoded(0), 0.0)
    for content, words in (
        (part(first, 1) + part(b"", 0), "do not follow"),
        (part(first, 1), "cut short"),
        (part(first, 2), "begins with part 2"),
        (part(first, 5), "begins with part 5"),
        (part(first, 1) + 100 * part(b"", 2) + part(b"", 3), "has more than 64 parts"),
    ):
        path.write_bytes(content)
        path.with_suffix(".idx").write_text("4\t0\n")
        with pytest.raises(CalibrationError, match=words) as caught:
            open_data(str(path)).example(0)
        assert caught.value.where == f"{path}, record 4"


def test_records_that_begin_at_one_byte_are_refused(tmp_path):
    path = write_records(tmp_path / "x.rec", [body(encoded(0), 0.0), body(encoded(1), 1.0)])
    path.with_suffix(".idx").write_text("4\t0\n5\t0\n")
    with pytest.raises(CalibrationError, match="the records 4 and 5 begin at the same byte"):
        open_data(str(path))


def test_a_broken_image_is_named_and_others_are_read(rec):
    place = offset(rec, 2)
    changed(rec, place + 8 + 24 + 8, b"no image")
    data = open_data(str(rec))
    with pytest.raises(CalibrationError, match="cannot be decoded") as caught:
        data.example(1)
    assert caught.value.where == f"{rec}, record 2"
    changed(rec, place, b"MAGI")
    with pytest.raises(CalibrationError, match="record 2 does not begin with RecordIO's magic number"):
        data.example(1)
    assert data.example(2).label == 1


def test_a_length_beyond_the_file_sets_no_memory_aside(rec):
    changed(rec, offset(rec, 5) + 4, struct.pack("<I", (1 << 29) - 1))
    with pytest.raises(CalibrationError, match="record 5 announces 536870911 bytes where the file has"):
        open_data(str(rec)).example(4)


def test_a_length_that_no_crop_has_is_refused_before_it_is_read(rec):
    place = offset(rec, 5)
    with rec.open("r+b") as file:
        file.truncate(1 << 28)
    changed_length = struct.pack("<I", 1 << 27)
    with rec.open("r+b") as file:
        file.seek(place + 4)
        file.write(changed_length)
    with pytest.raises(CalibrationError, match="more than any crop has"):
        open_data(str(rec)).example(4)


def test_more_labels_than_bytes_are_refused(tmp_path):
    path = write_records(tmp_path / "x.rec", [body(encoded(0), 1.0), body(b"1234", 0.0, flag=0xFFFFFFFF)])
    refused(path, "record 1 announces 4294967295 labels and has 28 bytes")


def test_a_file_cut_short_is_told_by_the_record(rec):
    rec.write_bytes(rec.read_bytes()[: offset(rec, 8) + 32])
    refused(rec, "record 8 announces 32 bytes where the file has 24 more")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("3\t1234567\n", "offset of record 3, 1234567, lies outside the file"),
        ("3\t6\n", "offset of record 3, 6, is not a multiple of 4"),
        ("2\t0\n", "the key 2 is there twice"),
        ("3 0\n", "no key and offset: '3 0'"),
        ("3\t-4\n", "no key and offset"),
        ("3\t1_0\n", "no key and offset"),
        ("3\t0\t0\n", "no key and offset"),
        ("3\t" + "9" * 30 + "\n", "no key and offset"),
        ("\n", "no key and offset"),
        ("3\t0\n" * 200, "more records than the file can hold"),
    ],
)
def test_faults_of_the_index_are_named(line, words, tmp_path):
    path = write_records(tmp_path / "x.rec", [body(encoded(number), float(number)) for number in range(3)])
    index = path.with_suffix(".idx")
    index.write_text(index.read_text() + line)
    assert refused(path, words).where == str(index)


def test_a_line_without_end_fills_no_memory(rec):
    rec.with_suffix(".idx").write_bytes(b"1" * (3 << 20))
    refused(rec, "no key and offset: '1111")


def test_a_missing_index_is_asked_for(rec):
    rec.with_suffix(".idx").unlink()
    assert refused(rec, "there is no such index").fix == "put it beside the .rec file"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0.0, 1.0, 3.0], "labels with a hole: identity 2 has no image"),
        ([1.0, 2.0, 3.0], "labels with a hole: identity 0 has no image"),
        ([0.0, 0.5, 1.0], "record 1 has the label 0.5"),
        ([0.0, 1.0, -1.0], "record 2 has the label -1.0"),
        ([0.0, float("nan"), 1.0], "record 1 has the label nan"),
        ([float("inf"), 0.0, 1.0], "record 0 has the label inf"),
        ([0.0, 1e30, 1.0], "record 1 has the label 1.0"),
    ],
)
def test_labels_that_are_none_are_refused(labels, words, tmp_path):
    refused(write_records(tmp_path / "x.rec", [body(encoded(0), label) for label in labels]), words)


@pytest.mark.parametrize(
    ("which", "labels", "words"),
    [
        (6, [1.0, 1.0], "hole: identity 0 has no image"),
        (7, [2.0, 4.0], "record 6 gives an identity images that record 7 gives to another"),
        (8, [4.0, 7.0], "record 8 gives an identity the images 4 to 7, not all there"),
        (8, [0.0, 6.0], "record 8 gives an identity the images 0 to 6"),
        (8, [5.0, 4.0], "record 8 gives an identity the images 5 to 4"),
        (8, 4.0, "record 8 has the label nan"),
        (0, [6.0, 30.0], "record 0 announces a record 9 of an identity, and the index has none"),
        (0, [60.0, 60.0], "record 0 announces a record 9 of an image, and the index has none"),
        (0, [6.0, 2.0], "announces images to 6 and identities to 2"),
        (0, [1.0, 2.0], "announces images to 1"),
        (0, [6.0, -2.5], "record 0 has the label -2.5"),
    ],
)
def test_faults_of_what_insightface_announces_are_named(which, labels, words, tmp_path):
    bodies = insightface(PEOPLE)
    bodies[which] = body(labels=labels)
    refused(write_records(tmp_path / "x.rec", bodies), words)


def test_the_property_file_must_agree(rec):
    file = rec.with_name("property")
    file.write_text("3,112,112\n")
    assert open_data(str(rec)).identities == 3
    file.write_text("85742,112,112")
    assert refused(rec, "says 85742 identities and the labels say 3").where == str(file)
    file.write_text("many")
    refused(rec, "does not say how many identities")


def test_fingerprints_differ_where_labels_do(tmp_path):
    def made(labels):
        path = write_records(tmp_path / "x.rec", [body(encoded(0), label) for label in labels])
        return open_data(str(path)).fingerprint()

    assert made([0.0, 1.0, 1.0]) != made([0.0, 0.0, 1.0])
    assert made([0.0, 1.0, 1.0]) == made([0.0, 1.0, 1.0])
