"""What every kind of training data keeps to, which kind a source is of, and holding out people."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from encoded import encoded, shown
from record_files import body, insightface, write_records
from test_shards import labelled, write_shard

from qface_toolkit.datasets import DATASETS, Opening, hold_out, open_data
from qface_toolkit.errors import CalibrationError, QFaceError

LABELS = [0, 0, 1, 2, 3, 3]


def make_people(folder):
    for number, label in enumerate(LABELS):
        (folder / f"p{label}").mkdir(exist_ok=True)
        (folder / f"p{label}" / f"{number}.png").write_bytes(encoded(number))
    return str(folder), Opening()


def make_crops(folder):
    for number in range(6):
        (folder / f"{number}.png").write_bytes(encoded(number))
    return str(folder), Opening()


def make_records(folder):
    people = [[encoded(number) for number, label in enumerate(LABELS) if label == person] for person in range(4)]
    return str(write_records(folder / "x.rec", insightface(people))), Opening()


def make_shards(folder):
    write_shard(folder / "0.tar", labelled(range(2), LABELS[:2]))
    write_shard(folder / "1.tar", labelled(range(2, 6), LABELS[2:], start=2))
    return str(folder / "{0..1}.tar"), Opening()


def make_drawn(folder):
    return "drawings", Opening(count=6, images_per_identity=2, cache=folder)


MAKERS = {
    "people": make_people,
    "crops": make_crops,
    "recordio": make_records,
    "shards": make_shards,
    "drawn": make_drawn,
}


@pytest.fixture
def made(request, tmp_path):
    return MAKERS[request.param](tmp_path)


def test_every_kind_is_tried_here():
    assert set(DATASETS.names()) == set(MAKERS)


@pytest.mark.parametrize(("made", "kind"), [(kind, kind) for kind in MAKERS], indirect=["made"])
def test_every_kind_keeps_its_word(made, kind):
    source, opening = made
    data, again = open_data(source, opening), open_data(source, opening)
    assert (data.kind, len(data)) == (kind, 6)
    assert DATASETS.get(kind).recognises(source)
    assert data.name and "/" not in data.name
    assert data.contains_no_real_face_data in (True, None)
    assert re.fullmatch("[0-9a-f]{64}", data.fingerprint()) and data.fingerprint() == again.fingerprint()
    examples = [data.example(index) for index in range(6)]
    with ThreadPoolExecutor(4) as pool:
        others = list(pool.map(again.example, [5, 4, 3, 2, 1, 0] * 5))[-6:][::-1]
    for one, other in zip(examples, others, strict=True):
        assert one.crop.shape == (112, 112, 3) and one.crop.dtype == np.uint8 and one.crop.flags.writeable
        assert np.array_equal(one.crop, other.crop) and one.label == other.label
        assert type(one.label) is int
    labels, found = data.labels(), [one.label for one in examples]
    if labels is None:
        assert (data.identities, set(found), data.traits()) == (0, {-1}, None)
    else:
        assert labels.tolist() == found and labels.dtype == np.int32 and not labels.flags.writeable
        assert set(found) == set(range(data.identities))
        assert data.traits() is None or len(data.traits()) == data.identities


@pytest.mark.parametrize("made", [kind for kind in MAKERS if kind != "crops"], indirect=True)
def test_whole_identities_are_held_out(made):
    data = open_data(*made)
    train, held = hold_out(data, count=1, identities=1, seed=5)
    assert (train.identities, held.identities) == (data.identities - 1, 1)
    assert len(train) + len(held) == len(data)
    for part in (train, held):
        assert (part.kind, part.name) == (data.kind, data.name)
        assert part.contains_no_real_face_data is data.contains_no_real_face_data
        found = [part.example(index).label for index in range(len(part))]
        assert found == part.labels().tolist() and set(found) == set(range(part.identities))
    whole = {data.example(index).crop.tobytes(): data.example(index).label for index in range(len(data))}
    owners = [{whole[part.example(index).crop.tobytes()] for index in range(len(part))} for part in (train, held)]
    assert owners[0] | owners[1] == set(range(data.identities)) and not owners[0] & owners[1]
    assert train.fingerprint() != held.fingerprint() != data.fingerprint()
    if data.traits() is not None:
        assert np.array_equal(train.traits(), data.traits()[sorted(owners[0])])
        assert np.array_equal(held.traits(), data.traits()[sorted(owners[1])])


def test_single_images_are_held_out_without_labels(tmp_path):
    data = open_data(*make_crops(tmp_path))
    train, held = hold_out(data, count=2, identities=0, seed=1)
    (first, labels), (second, _) = shown(train), shown(held)
    assert sorted(first + second) == list(range(6)) and len(second) == 2
    assert set(labels) == {-1} and train.labels() is None and train.traits() is None
    assert shown(hold_out(data, count=2, identities=0, seed=1)[1])[0] == second
    assert any(shown(hold_out(data, count=2, identities=0, seed=seed)[1])[0] != second for seed in range(5))


def test_a_part_of_a_part_is_right(tmp_path):
    train, _ = hold_out(open_data(*make_people(tmp_path)), count=0, identities=1, seed=0)
    rest, held = hold_out(train, count=0, identities=1, seed=0)
    assert (rest.identities, held.identities, len(rest) + len(held)) == (2, 1, len(train))


@pytest.mark.parametrize("identities", [0, 3, -1])
def test_something_must_be_left_to_learn_from(identities, tmp_path):
    with pytest.raises(CalibrationError, match=f"{identities} identities are to be held out, of 4"):
        hold_out(open_data(*make_people(tmp_path)), count=1, identities=identities)


def test_unlabelled_images_must_be_left_too(tmp_path):
    with pytest.raises(CalibrationError, match="6 images are to be held out, of 6"):
        hold_out(open_data(*make_crops(tmp_path)), count=6, identities=1)


@pytest.mark.parametrize(
    ("source", "fix"),
    [("drawing", "did you mean drawings\\? Or give"), ("nothing/here", "^give a set's name"), ("a\0b", "")],
)
def test_what_is_nothing_is_told_what_it_may_be(source, fix):
    with pytest.raises(CalibrationError, match="no training data of this name") as caught:
        open_data(source)
    assert re.search(fix, caught.value.fix)
    assert "drawings-heldout" in caught.value.fix and "train-{000..009}.tar" in caught.value.fix


@pytest.mark.parametrize("source", ["a\0b.rec", "a\0b.tar", "a\0b.yaml", "a\0*.tar"])
def test_odd_names_are_errors_in_words(source):
    with pytest.raises(QFaceError):
        open_data(source)


def test_another_file_is_told_what_it_may_be(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK")
    with pytest.raises(CalibrationError, match="no training data of a kind that is known"):
        open_data(str(tmp_path / "x.zip"))


def test_packed_data_go_before_the_folder_they_lie_in(tmp_path):
    make_crops(tmp_path)
    write_records(tmp_path / "train.rec", [body(encoded(0)), body(encoded(1))])
    assert open_data(str(tmp_path)).kind == "recordio"


def test_kinds_of_others_come_last(tmp_path, monkeypatch):
    made = []

    class Mine:
        def recognises(self, source):
            return True

        def open(self, source, opening):
            made.append(source)

    monkeypatch.setattr(DATASETS, "_entries", {**DATASETS.entries(), "aardvark": Mine()})
    source, opening = make_crops(tmp_path)
    assert open_data(source, opening).kind == "crops" and not made
    open_data("anything")
    assert made == ["anything"]
