"""Verification sets of people's own, and preprocessings as they were given to other tools."""

import io
import json
import pickle
import struct

import numpy as np
import pytest
from helpers import run_here
from PIL import Image
from reported import SETS, exported, saved, small_network

from qface_toolkit.errors import CheckpointError, MeasurementError
from qface_toolkit.evaluation.pairs import check_kinds, read_pairs, read_pairs_file
from qface_toolkit.models import load_model


def picture(seed):
    """Return a JPEG of a few smooth colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).resize((112, 112), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


PICTURES = [picture(seed) for seed in range(80)]


def pairs_file(folder, same, images=PICTURES):
    path = folder / "own.bin"
    path.write_bytes(pickle.dumps((images[: 2 * len(same)], list(same))))
    return path


def of_python_two(same, *, binary):
    """Return a pair list as Python 2 pickled it: its texts are bytes."""
    if binary:
        texts = b"".join(b"T" + struct.pack("<i", len(image)) + image for image in PICTURES)
        return b"\x80\x02](" + texts + b"e](" + b"".join(b"\x88" if flag else b"\x89" for flag in same) + b"e\x86."
    texts = b"".join(b"S" + repr(image)[1:].encode() + b"\na" for image in PICTURES)
    return b"((lp0\n" + texts + b"(lp1\n" + b"".join(b"I0%d\na" % flag for flag in same) + b"tp2\n."


@pytest.mark.parametrize("binary", [True, False])
def test_lists_that_python_two_pickled(binary, tmp_path):
    same = [True, False] * 20
    (tmp_path / "lfw.bin").write_bytes(of_python_two(same, binary=binary))
    file = read_pairs_file(tmp_path / "lfw.bin")
    assert file.images == tuple(PICTURES) and file.same.tolist() == same


ONE_KIND_AFTER_THE_OTHER = ([True] * 20 + [False] * 20, [False] * 13 + [True] * 27, [True] * 29 + [False] * 11)


@pytest.mark.parametrize("same", ONE_KIND_AFTER_THE_OTHER)
@pytest.mark.parametrize("folds", [2, 7, 10])
def test_pairs_of_one_kind_behind_each_other_are_dealt_to_the_folds(same, folds, tmp_path):
    found = read_pairs(pairs_file(tmp_path, same), folds)
    dealt = found.pairs
    for part in np.array_split(dealt.same, folds):
        assert 0 < part.sum() < len(part)
    seen = sorted(zip(dealt.first, dealt.second, dealt.same, strict=True))
    assert seen == [(2 * at, 2 * at + 1, flag) for at, flag in enumerate(same)]
    assert any("dealt to the folds in turns" in note for note in found.notes)


def test_pairs_in_turns_stay_as_they_are(tmp_path):
    found = read_pairs(pairs_file(tmp_path, [True, False] * 20))
    assert found.pairs.same.tolist() == [True, False] * 20
    assert found.notes == ()


@pytest.mark.parametrize(("same", "fix"), [([True] * 40, "add pairs"), ([True] * 37 + [False] * 3, "--folds 3")])
def test_too_few_pairs_of_one_kind_are_said_before_any_work(same, fix, tmp_path, monkeypatch, capsys):
    path = pairs_file(tmp_path, same)
    with pytest.raises(MeasurementError, match="of two people are too few of one kind for 10 folds") as raised:
        check_kinds(read_pairs(path), path)
    assert fix in raised.value.fix
    network = saved(tmp_path, exported(small_network()))
    code, _, said = run_here(monkeypatch, capsys, "evaluate", network, "--pairs", path, *SETS)
    assert code == 1 and "embed" not in said
    if "--folds" in fix:
        assert run_here(monkeypatch, capsys, "evaluate", network, "--pairs", path, *SETS, "--folds", "3")[0] == 0


def test_a_list_of_one_kind_after_the_other_is_judged(tmp_path, monkeypatch, capsys):
    network = saved(tmp_path, exported(small_network()))
    path = pairs_file(tmp_path, ONE_KIND_AFTER_THE_OTHER[0])
    code, said, _ = run_here(monkeypatch, capsys, "evaluate", network, "--pairs", path, "--json", *SETS)
    assert code == 0
    found = json.loads(said)
    assert found["figures"]["pair_list"]["pair_accuracy"] <= 1
    assert any("dealt to the folds" in note for note in found["notes"])


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("facts"), exported(small_network()))


@pytest.mark.parametrize(
    ("mean", "std", "meant"),
    [
        (127.5, 0.0078125, "model.std=128"),  # a scale that other tools multiply by
        (127.5, 0.007843137255, "model.std=127.5"),
        (-127.5, 128, "model.mean=127.5"),  # a bias that other tools add
        ([-1.0, -1.0, -1.0], [0.0078125, 0.0078125, 0.0078125], "model.mean="),
        (0, 0.00392156862745098, "model.std=255"),
    ],
)
def test_scales_and_biases_of_other_tools(mean, std, meant, network):
    with pytest.raises(CheckpointError, match="pixels are 0 to 255 here") as raised:
        load_model(network, overrides={"mean": mean, "std": std, "color": "rgb"})
    assert meant in raised.value.fix


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ([91.4953, 103.8827, 131.0912], 1),  # VGGFace2 by Caffe
        ([93.5940, 104.7624, 129.1863], 1),  # VGGFace
        (0, 255),
        (0, 1),
        (127.5, 128),
        ([104, 117, 123], 1),
        ([122.782, 117.001, 104.298], 256),
    ],
)
def test_preprocessings_that_are_usual_somewhere(mean, std, network):
    spec = load_model(network, overrides={"mean": mean, "std": std, "color": "bgr"}).spec
    assert spec.color == "bgr"
