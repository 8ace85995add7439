"""The layout of IJB-B and IJB-C: read in pieces, aligned from known places, and refused where it does not fit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import SPEC, FakeModel
from hypothesis import given, settings
from hypothesis import strategies as st
from ijb_files import write_protocol

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation import _ijb_text, read_ijb, stream_embeddings
from qface_toolkit.evaluation._ijb_text import read_pair_list
from qface_toolkit.scoring.templates import TemplateSums, score_templates


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ijb") / "IJBC"
    return folder, *write_protocol(folder)


def test_every_line_is_read_as_it_stands(written):
    folder, lines, _ = written
    found = read_ijb(folder)
    assert [found.images.name(row) for row in range(18)] == [f"loose_crop/{line.name}" for line in lines]
    assert found.template_ids.tolist() == [1, 11, 21, 31, 41, 51]
    assert found.template_ids[found.templates].tolist() == [line.template for line in lines]
    assert found.media.tolist() == [line.medium for line in lines]
    assert np.allclose(found.detector, [line.score for line in lines], atol=1e-6)
    assert (found.first[0], found.second[0], found.same[0]) == (0, 1, False)
    assert found.same.tolist() == [(a - b) % 3 == 0 for a, b in zip(found.first, found.second, strict=True)]
    kinds = (found.templates, found.media, found.first, found.second)
    assert {array.dtype for array in kinds} == {np.dtype(np.int32)}


def test_faces_come_back_from_where_they_were_placed(written):
    folder, _, crops = written
    found = read_ijb(folder)
    inner = slice(20, 92)
    for row, crop in enumerate(crops):
        difference = np.abs(found.images.crop(row).astype(int) - crop)[inner, inner]
        # Sampling twice softens edges and grain; half a pixel aside would cost thrice this.
        assert difference.mean() < 4, row


def test_the_description_is_short_and_holds_no_path(written):
    folder, *_ = written
    description = read_ijb(folder).description
    sha256 = description.pop("sha256")
    assert len(sha256) == 64
    assert description == {
        "kind": "ijb",
        "name": "IJBC",
        "protocol": "ijbc",
        "images": 18,
        "people": None,
        "templates": 6,
        "pairs": 15,
        "genuine_pairs": 3,
    }


def test_rows_are_streamed_in_the_files_order(written):
    folder, *_ = written
    parts = list(stream_embeddings(FakeModel().opened(), read_ijb(folder).images, batch=5, flip=False))
    assert [start for start, _ in parts] == list(range(0, 18, len(parts[0][1])))
    crops = np.stack([read_ijb(folder).images.crop(row) for row in range(18)])
    assert np.array_equal(np.concatenate([rows for _, rows in parts]), FakeModel()(SPEC.preprocess(crops)))


def protocol_scores(lines, pairs, crops):
    """Return the pairs' scores by the protocol's steps, written out one by one (insightface's IJB 1:1, N1 D1 F2)."""
    rows = FakeModel()(SPEC.preprocess(crops)) + FakeModel()(SPEC.preprocess(crops[:, :, ::-1]))
    units = {}
    for template in {line.template for line in lines}:
        whole = np.zeros(4)
        for medium in {line.medium for line in lines if line.template == template}:
            mine = [at for at, one in enumerate(lines) if (one.template, one.medium) == (template, medium)]
            whole += np.mean([rows[at] * np.float32(lines[at].score) for at in mine], axis=0)
        units[template] = whole / np.linalg.norm(whole)
    return [units[a] @ units[b] for a, b, _ in pairs]


def test_files_give_the_scores_of_the_protocol(tmp_path):
    kept = {}
    lines, _ = write_protocol(tmp_path / "ijb", change=lambda lines, pairs: kept.update(pairs=pairs))
    found = read_ijb(tmp_path / "ijb")
    sums = TemplateSums(found.templates, found.media, detector_scores=found.detector)
    for _, rows in stream_embeddings(FakeModel().opened(), found.images, flip=True):
        sums.add(rows)
    scores = score_templates(sums.finish(), found.first, found.second)
    crops = np.stack([found.images.crop(row) for row in range(18)])
    assert np.allclose(scores, protocol_scores(lines, kept["pairs"], crops), atol=1e-6)
    assert found.same.tolist() == [bool(label) for *_, label in kept["pairs"]]


def test_the_digest_is_of_the_picture_and_its_landmarks(written, tmp_path):
    folder, *_ = written
    moved = tmp_path / "IJBC"
    write_protocol(moved, change=lambda lines, _: setattr(lines[3], "landmarks", lines[3].landmarks + 0.5))
    before, after = (
        [images.digest(row) for row in range(18)] for images in (read_ijb(folder).images, read_ijb(moved).images)
    )
    assert [row for row in range(18) if before[row] != after[row]] == [3]
    assert len(set(before)) == 18


def test_the_name_is_asked_for_where_both_protocols_are(tmp_path):
    write_protocol(tmp_path / "both")
    for file in (tmp_path / "both" / "meta").iterdir():
        file.with_name(file.name.replace("ijbc", "ijbb")).write_bytes(file.read_bytes())
    with pytest.raises(MeasurementError, match="both IJB-B and IJB-C"):
        read_ijb(tmp_path / "both")
    assert read_ijb(tmp_path / "both", "ijbb").description["protocol"] == "ijbb"


def set_all(items, value):
    items[:] = value


DAMAGES = {
    "template without image": (lambda lines, pairs: pairs.append((1, 77, 0)), "template 77 has no image", "line 16"),
    "label": (lambda lines, pairs: pairs.append((1, 11, 2)), "neither 0 nor 1", "line 16"),
    "no pairs": (lambda lines, pairs: pairs.clear(), "is empty", "pair_label"),
    "one kind": (lambda lines, pairs: set_all(pairs, pairs[:1]), "all of one kind", "pair_label"),
    "two columns": (lambda lines, pairs: pairs.insert(4, (1, 11)), "not three whole numbers", "line 5"),
    "four columns": (lambda lines, pairs: pairs.insert(4, (1, 11, 0, 0)), "not three whole numbers", "line 5"),
    "a word": (lambda lines, pairs: pairs.insert(4, (1, "x", 0)), "not three whole numbers", "line 5"),
    "negative": (lambda lines, pairs: pairs.insert(4, (1, -1, 0)), "not three whole numbers", "line 5"),
    "huge": (lambda lines, pairs: pairs.insert(4, (1, 10**30, 0)), "has no image", "line 5"),
    "missing image": (lambda lines, pairs: setattr(lines[4], "name", "gone"), "1 of 18 images are missing", "loose"),
    "outside": (lambda lines, pairs: setattr(lines[4], "name", "../1.png"), "leads out", "line 5"),
    "absolute": (lambda lines, pairs: setattr(lines[4], "name", "/etc/passwd"), "leads out", "line 5"),
    "spaces": (lambda lines, pairs: setattr(lines[4], "name", "a b.png"), "has 4 fields, not 3", "line 5"),
    "template": (lambda lines, pairs: setattr(lines[4], "template", 1.5), "no whole number", "line 5"),
    "medium": (lambda lines, pairs: setattr(lines[4], "medium", 1 << 31), "no whole number", "line 5"),
    "nan": (lambda lines, pairs: setattr(lines[4], "template", "nan"), "no whole number", "line 5"),
    "score": (lambda lines, pairs: setattr(lines[4], "score", np.inf), "not finite", "line 5"),
    "flat": (lambda lines, pairs: setattr(lines[4], "landmarks", np.ones(10)), "five different points", "line 5"),
    "four points": (lambda lines, pairs: setattr(lines[4], "landmarks", np.ones(8)), "has 10 fields, not 12", "line 5"),
    "long": (lambda lines, pairs: setattr(lines[4], "name", "x" * 2000), "too long", "line 5"),
    "empty": (lambda lines, pairs: lines.clear(), "is empty", "face_tid_mid"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_files_that_do_not_fit_are_refused(tmp_path, kind):
    change, message, where = DAMAGES[kind]
    write_protocol(tmp_path / "ijb", change=change)
    with pytest.raises(MeasurementError, match=message) as raised:
        read_ijb(tmp_path / "ijb")
    assert where in raised.value.where
    assert raised.value.fix


def edit(folder, what, change):
    file = folder / "meta" / f"ijbc_{what}.txt"
    file.write_text("".join(change(file.read_text().splitlines(keepends=True))))


def test_lists_of_different_images_are_refused(tmp_path):
    write_protocol(tmp_path / "ijb")
    edit(tmp_path / "ijb", "name_5pts_score", lambda lines: [lines[1], lines[0], *lines[2:]])
    with pytest.raises(MeasurementError, match=r"line 1 is '1.png' in .* and '2.png' in"):
        read_ijb(tmp_path / "ijb")
    edit(tmp_path / "ijb", "name_5pts_score", lambda lines: lines[:-1])
    with pytest.raises(MeasurementError, match="has 18 images and ijbc_name_5pts_score.txt has 17"):
        read_ijb(tmp_path / "ijb")


@pytest.mark.parametrize("what", ["face_tid_mid", "name_5pts_score", "template_pair_label"])
def test_a_missing_file_is_named(tmp_path, what):
    write_protocol(tmp_path / "ijb")
    (tmp_path / "ijb" / "meta" / f"ijbc_{what}.txt").unlink()
    with pytest.raises(MeasurementError, match="no such file|neither IJB-B nor") as raised:
        read_ijb(tmp_path / "ijb")
    assert raised.value.fix


@pytest.mark.parametrize("end", ["", "\n", "\n\n \n", "\r\n"])
def test_the_last_line_may_end_in_any_way(tmp_path, end):
    write_protocol(tmp_path / "ijb")
    for what in ("face_tid_mid", "name_5pts_score", "template_pair_label"):
        edit(tmp_path / "ijb", what, lambda lines: [*lines[:-1], lines[-1].rstrip() + end])
    assert len(read_ijb(tmp_path / "ijb").same) == 15


PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 1)), min_size=1, max_size=60)


@given(PAIRS, st.integers(1, 40), st.sampled_from([" ", "\t", "  "]), st.sampled_from(["\n", "\r\n", "\n\n"]))
@settings(deadline=None)
def test_pairs_are_the_same_in_pieces_of_any_size(tmp_path_factory, pairs, piece, between, end):
    path = tmp_path_factory.getbasetemp() / "pairs.txt"
    path.write_text(end.join(between.join(map(str, pair)) for pair in pairs), newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ijb_text, "_CHUNK", piece)
        first, second, same = read_pair_list(path, np.arange(10, dtype=np.int32))
    assert list(zip(first, second, same, strict=True)) == [(a, b, bool(one)) for a, b, one in pairs]


@given(st.binary(max_size=40) | st.text("0123456789 \n\t-.x", max_size=40).map(str.encode), st.integers(1, 20))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_pairs_or_refused_in_our_words(tmp_path_factory, content, piece):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(content)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_ijb_text, "_CHUNK", piece)
            first, second, same = read_pair_list(path, np.arange(10, dtype=np.int32))
        assert len(first) == len(second) == len(same) == sum(bool(line.strip()) for line in content.split(b"\n"))
    except MeasurementError as error:
        assert error.fix


@given(st.binary(max_size=60) | st.text("0123456789 \n.-einfa/", max_size=60).map(str.encode), st.sampled_from([2, 11]))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_lines_or_refused_in_our_words(tmp_path_factory, content, columns):
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    path.write_bytes(b"a.jpg" + b" 1 2 3 4 5 6 7 8 9 0 1"[: 2 * columns] + b"\n" + content)
    try:
        read = {2: _ijb_text.read_templates, 11: _ijb_text.read_detections}[columns]
        names, numbers, others = read(path)
        assert len(names) == len(numbers) == len(others)
        assert names[0] == "a.jpg"
    except MeasurementError as error:
        assert error.fix


def test_a_line_without_end_is_refused_in_little_memory(tmp_path):
    path = tmp_path / "pairs.txt"
    with path.open("wb") as stream:
        stream.truncate(1 << 30)
    with pytest.raises(MeasurementError, match="no end"):
        read_pair_list(path, np.arange(10, dtype=np.int32))


IMAGES, PAIR_LINES, FIRST_TEMPLATE = 470_000, 15_660_000, 1
READ = """
import sys
from pathlib import Path
from qface_toolkit.untrusted.limits import peak_memory_bytes
from qface_toolkit.evaluation import read_ijb, ijb
ijb._check_pictures = lambda folder, names: None
found = read_ijb(Path(sys.argv[1]))
print(len(found.images), len(found.same), peak_memory_bytes())
"""


@pytest.mark.slow
def test_the_size_of_ijbc_needs_less_than_a_gibibyte(tmp_path):
    (tmp_path / "meta").mkdir()
    rows = np.arange(IMAGES)
    pairs = np.random.default_rng(0).integers(0, 23_124, (PAIR_LINES // 60, 2))
    block = "".join(f"{a} {b} {int(at % 800 == 0)}\n" for at, (a, b) in enumerate(pairs.tolist()))
    points = " ".join(f"{value:.3f}" for value in np.linspace(40.1, 110.9, 10))
    files = {
        "face_tid_mid": (f"{row}.jpg {row % 23_124} {row // 3}\n" for row in rows),
        "name_5pts_score": (f"{row}.jpg {points} 0.999\n" for row in rows),
        "template_pair_label": (block for _ in range(60)),
    }
    for what, lines in files.items():
        with Path(tmp_path / "meta" / f"ijbc_{what}.txt").open("w") as stream:
            stream.writelines(lines)
    command = [sys.executable, "-c", READ, str(tmp_path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    images, found, peak = map(int, output.split())
    assert (images, found) == (IMAGES, PAIR_LINES)
    assert peak < 1 << 30, f"{peak / 2**20:.0f} MiB"
