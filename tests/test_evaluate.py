"""`qface evaluate` from files to what a person reads: every protocol, alone and against the float model."""

import json
import pickle
import shutil

import numpy as np
import onnx
import pytest
from finished_folders import intact
from helpers import contents, run_here
from PIL import Image

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation.synthetic import synthetic_people
from qface_toolkit.pipeline import EvaluationSet, _evaluate, evaluate
from qface_toolkit.report import read_evaluation
from qface_toolkit.report.evaluation_verdict import evaluation_verdict
from qface_toolkit.result.manifest import read_manifest
from qface_toolkit.scoring.skin_tone import TONES

PEOPLE, EACH = 12, 3
QUICK = ("--draws", "20", "--quiet")


@pytest.fixture(scope="module")
def result(finished_onnx):
    return finished_onnx / "out"


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Give a folder of drawn people as a user would have one of faces, a .bin of pairs of them, and their groups."""
    folder, drawn = tmp_path_factory.mktemp("faces"), synthetic_people(PEOPLE, EACH)
    lines = ["image,group"]
    for index in range(PEOPLE * EACH):
        person = folder / "people" / f"person-{index // EACH:02}"
        person.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.images.crop(index)).save(person / f"{index % EACH}.png")
        lines.append(f"{person.name}/{index % EACH}.png,{'even' if index // EACH % 2 else 'odd'}")
    (folder / "groups.csv").write_text("\n".join(lines) + "\n")
    # Every fold has pairs of both kinds.
    pairs = [(person, person + shift, not shift) for person in range(10) for shift in (0, 1)]
    shown = [f"person-{one:02}/{name}" for a, b, _ in pairs for one, name in ((a, "0.png"), (b, "1.png"))]
    images, flags = [(folder / "people" / name).read_bytes() for name in shown], [same for *_, same in pairs]
    (folder / "pairs.bin").write_bytes(pickle.dumps((images, flags), protocol=4))
    return folder


@pytest.fixture
def qface(monkeypatch, capsys):
    return lambda *args: run_here(monkeypatch, capsys, *args)


def test_a_result_is_compared_with_its_own_float_model(qface, result, faces, tmp_path):
    code, out, err = qface("evaluate", result, "--faces", faces / "people", *QUICK, "--out", tmp_path / "found")
    assert (code, err) == (0, "")
    assert "float.onnx (float)" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "Everything is in" not in out
    found = read_evaluation(tmp_path / "found" / "evaluation.json")
    assert (found.model.name, found.reference.name) == ("int8.x86.onnx", "float.onnx")
    assert found.data.people == PEOPLE
    assert found.figures.every_pair.genuine == PEOPLE * 3
    assert found.figures.every_pair.impostors == (36 * 35 - 12 * 6) / 2
    assert found.paired.figures["cosine_mean"].value > 0.9
    page = (tmp_path / "found" / "evaluation.md").read_text()
    assert "![DET curve and scores](evaluation.svg)" in page
    assert (tmp_path / "found" / "evaluation.svg").read_bytes().startswith(b"<?xml")


def test_the_same_model_loses_nothing(result, faces):
    found = evaluate(
        result / "float.onnx", EvaluationSet(faces=faces / "people", draws=20), reference=result / "float.onnx"
    )
    lost = {name: one for name, one in found.paired.figures.items() if "_lost" in name}
    assert lost
    assert all(one.value == one.low == one.high == 0 for one in lost.values())
    assert found.paired.figures["cosine_min"].value == pytest.approx(1)
    assert found.paired.genuine_drift.mean.value == pytest.approx(0, abs=1e-6)
    assert found.paired.at["1e-2"].own.genuine_lost.value == 0


def test_json_is_one_object_and_the_same_twice(qface, result, faces):
    args = ("evaluate", result, "--faces", faces / "people", "--draws", "20", "--json")
    code, out, err = qface(*args)
    assert code == 0
    # The tiny network's weights are random: it tells nobody apart, and a program's reader hears of that too.
    assert err.startswith("ALARM: The float model itself does not tell these people apart")
    assert err.count("\n") == 1
    found, again = json.loads(out), json.loads(qface(*args)[1])
    for one in (found, again):
        del one["seconds"]
    assert found == again
    assert {"tar", "eer", "thresholds"} <= found["figures"]["every_pair"]["rates"].keys()


def test_groups_have_losses_of_their_own(qface, result, faces):
    code, out, _ = qface(
        "evaluate", result, "--faces", faces / "people", "--groups", faces / "groups.csv", *QUICK, "--json"
    )
    assert code == 0
    assert json.loads(out)["groups"].keys() == {"even", "odd"}


def test_faces_are_judged_by_skin_tone_without_being_asked(qface, result, faces):
    found = json.loads(qface("evaluate", result, "--faces", faces / "people", *QUICK, "--json")[1])
    assert found["groups"].keys() <= {tone.name for tone in TONES} and len(found["groups"]) > 1
    asked = json.loads(qface("evaluate", result, "--faces", faces / "people", "--groups", "ita", *QUICK, "--json")[1])
    assert asked["groups"] == found["groups"]
    alone = json.loads(qface("evaluate", result / "float.onnx", "--faces", faces / "people", *QUICK, "--json")[1])
    assert alone["groups"] == {}


def test_crops_that_show_no_cheeks_have_no_groups_by_skin_tone(qface, result, faces, tmp_path):
    for file in (faces / "people").rglob("*.png"):
        grey = tmp_path / "grey" / file.parent.name / file.name
        grey.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).convert("L").convert("RGB").save(grey)
    sets = ("evaluate", result, "--faces", tmp_path / "grey", *QUICK)
    found = json.loads(qface(*sets, "--json")[1])
    assert found["groups"] == {}
    assert any(note.startswith("no groups by skin tone: where the cheeks stand") for note in found["notes"])
    code, out, err = qface(*sets, "--groups", "ita")
    assert (code, out) == (1, "") and "have no colour of skin" in err and "aligned" in err


def test_pairs_are_judged_by_folds_with_the_mirrored_image(qface, result, faces):
    code, out, _ = qface("evaluate", result, "--pairs", faces / "pairs.bin", "--folds", "5", *QUICK, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["flip"] is True
    assert found["figures"]["pair_list"]["pairs"] == 20
    assert 0 <= found["figures"]["pair_list"]["pair_accuracy"] <= 1
    assert "pair_accuracy_lost" in found["paired"]["figures"]
    code, out, _ = qface("evaluate", result, "--pairs", faces / "pairs.bin", "--folds", "5", "--no-flip", *QUICK)
    assert code == 0
    assert "mirrored image: not used" in " ".join(out.split())


def test_drawings_are_called_drawings(qface, result, monkeypatch):
    monkeypatch.setattr(_evaluate, "synthetic_people", lambda: synthetic_people(PEOPLE, EACH))
    code, out, _ = qface("evaluate", result, "--synthetic", *QUICK)
    assert code == 0
    assert "36 drawings of 12 drawn identities (no real faces)" in " ".join(out.split())


@pytest.mark.slow
def test_the_demo_model_is_judged_on_drawings(qface):
    code, out, _ = qface("evaluate", "demo", "--synthetic", *QUICK, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["data"]["images"] == 1600
    assert found["figures"]["every_pair"]["rates"]["tar"]["1e-3"] > 0.9


def test_a_model_alone(qface, result, faces):
    code, out, _ = qface("evaluate", result / "float.onnx", "--faces", faces / "people", "--per-identity", "2", *QUICK)
    assert code == 0
    assert "ALARM: float.onnx does not tell these people apart" in " ".join(out.split())
    assert "24 images" in " ".join(out.split())


def test_embeddings_are_kept_for_the_next_time(result, faces, tmp_path):
    people = EvaluationSet(faces=faces / "people", draws=20)
    first = evaluate(result, people, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*.rows"))
    again = evaluate(result, people, cache=tmp_path / "cache")
    assert first.figures == again.figures
    assert first.paired == again.paired


def test_nothing_is_overwritten_unasked(qface, result, faces, tmp_path):
    args = ("evaluate", result, "--pairs", faces / "pairs.bin", "--folds", "5", *QUICK, "--out", tmp_path)
    assert qface(*args)[0] == 0
    code, _, err = qface(*args)
    assert code == 1
    assert "--force" in err
    assert qface(*args, "--force")[0] == 0


@pytest.mark.parametrize("place", ["found", "found/evaluation.json", "found/evaluation.json/deeper"])
def test_what_cannot_be_written_is_said_before_the_work(qface, faces, tmp_path, place):
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "evaluation.json").write_text("{}")
    # There is no such model, so whatever is said was said before it was looked for.
    code, out, err = qface("evaluate", tmp_path / "none.onnx", "--faces", faces / "people", "--out", tmp_path / place)
    assert (code, out) == (1, "")
    assert "--force" in err if place == "found" else "a file and not a folder" in err


@pytest.mark.parametrize(
    ("args", "what"),
    [
        ((), "not none of them"),
        (("--pairs", "a.bin", "--synthetic"), "not --pairs and --synthetic"),
        (("--suite", "quantface", "sets", "--faces", "people"), "not --faces and --suite"),
        (("--synthetic", "--per-identity", "2"), "--per-identity is for --faces"),
        (("--suite", "quantface", "sets", "--groups", "groups.csv"), "--groups is for --faces"),
        (("--synthetic", "--groups", "groups.csv"), "--groups is for --faces"),
        (("--pairs", "a.bin", "--groups", "ita"), "--groups is for --faces"),
    ],
)
def test_options_that_would_be_ignored_are_refused(qface, args, what):
    code, out, err = qface("evaluate", "none.onnx", *args)
    assert (code, out) == (2, "")
    assert what in " ".join(err.split())


def test_groups_need_a_float_model(qface, result, faces):
    sets = ("--faces", faces / "people", "--groups", faces / "groups.csv")
    code, _, err = qface("evaluate", result / "float.onnx", *sets, *QUICK)
    assert code == 1
    assert "--reference" in err


def test_only_people_have_groups():
    with pytest.raises(MeasurementError, match="only people have groups"):
        EvaluationSet(pairs="a.bin", groups="ita")
    with pytest.raises(MeasurementError, match="only people have groups"):
        EvaluationSet(synthetic=True, groups="table.csv")
    assert EvaluationSet(synthetic=True, groups="ita")


@pytest.mark.slow
def test_drawn_people_have_groups_by_the_skin_they_were_drawn_with(qface, result):
    found = json.loads(qface("evaluate", result, "--synthetic", "--groups", "ita", *QUICK, "--json")[1])
    assert list(found["groups"]) == [tone.name for tone in TONES]
    assert sum(one["people"] for one in found["groups"].values()) == 200


@pytest.mark.parametrize("sets", [{}, {"synthetic": True, "faces": "people"}])
def test_exactly_one_set_is_asked_for(sets):
    with pytest.raises(MeasurementError, match="sets of images were given, not one"):
        EvaluationSet(**sets)


def bad_model(path, result, change):
    file = onnx.load(result / "float.onnx")
    change(file)
    onnx.save(file, path)
    return path


def spoil(file):
    weights = max(file.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights.raw_data = np.full(len(weights.raw_data) // 4, np.nan, np.float32).tobytes()


def test_one_embedding_for_everybody_is_no_gain(result, faces, tmp_path):
    def change(file):
        for tensor in file.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                ones = np.ones(len(tensor.raw_data) // 4, np.float32)
                tensor.raw_data = (ones if len(tensor.dims) == 1 else 0 * ones).tobytes()

    path = bad_model(tmp_path / "alike.onnx", result, change)
    found = evaluate(path, EvaluationSet(faces=faces / "people", draws=20), reference=result / "float.onnx")
    assert found.figures.every_pair.rates.tar["1e-2"] == found.figures.every_pair.rates.reached["1e-2"] == 1
    assert all(said.alarm and "better" not in said.text for said in evaluation_verdict(found))
    assert any("this model gives 100 % of the impostor pairs" in note for note in found.notes)


def test_a_model_of_nan_is_named_with_the_image(qface, result, faces, tmp_path):
    path = bad_model(tmp_path / "nan.onnx", result, spoil)
    code, out, err = qface("evaluate", path, "--faces", faces / "people", *QUICK)
    assert (code, out) == (1, "")
    assert "person-00/0.png" in err
    assert "not finite" in err


class Attack:
    def __reduce__(self):
        return print, ("this must never be printed",)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (pickle.dumps(([b"a", Attack()], [True])), "which no list of images needs"),
        (pickle.dumps(([b"a", b"b", b"c"], [True])), "3 images for 1 pairs"),
        (b"\x80\x04" + b"(" * 100_000, "no pickle|ends"),
        (pickle.dumps(([b"\xff\xd8\xff\xe0 cut short"] * 40, [True, False] * 10)), "image 1 of pairs.bin|image 0 of"),
    ],
    ids=["call", "odd", "deep", "truncated"],
)
def test_a_bad_list_of_pairs_is_refused(qface, result, tmp_path, content, what):
    (tmp_path / "pairs.bin").write_bytes(content)
    code, out, err = qface("evaluate", result, "--pairs", tmp_path / "pairs.bin", *QUICK)
    assert code == 1
    assert out == ""
    assert "never" not in err
    assert "Traceback" not in err
    assert any(part in err for part in what.split("|"))


def test_a_name_that_is_no_text_can_be_written(qface, result, faces, tmp_path):
    shutil.copytree(faces / "people", tmp_path / "people")
    (tmp_path / "people" / "person-00").rename(tmp_path / "people" / "caf\udce9")
    code, _, err = qface("evaluate", result, "--faces", tmp_path / "people", *QUICK, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "caf?/" in (tmp_path / "out" / "evaluation.json").read_text()


def test_one_identity_is_not_enough(qface, result, faces, tmp_path):
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "one").symlink_to(faces / "people" / "person-00")
    code, _, err = qface("evaluate", result, "--faces", tmp_path / "people", *QUICK)
    assert code == 1
    assert "fewer than two people" in err or "people" in err


@pytest.mark.slow
def test_a_result_that_is_judged_tells_of_it(qface, result, faces, tmp_path):
    copy = shutil.copytree(result, tmp_path / "out")
    before = (copy / "report.html").read_text()
    args = ("evaluate", copy, "--faces", faces / "people", *QUICK, "--out", copy)
    assert qface(*args)[0] == 0
    page, card = (copy / "report.html").read_text(), (copy / "model_card.md").read_text()
    assert "DET curve" in page
    assert "DET curve" not in before
    assert "float gallery" in card
    intact(copy)
    assert "evaluation.json" in read_manifest(copy).files
    assert qface(*args)[0] == 1


def test_another_result_is_not_told_of_it(qface, result, faces, tmp_path):
    copy = shutil.copytree(result, tmp_path / "out")
    known = contents(copy)
    args = ("evaluate", result / "float.fast.onnx", "--faces", faces / "people", *QUICK, "--out", copy)
    (copy / "float.fast.onnx").unlink()
    report = json.loads((copy / "report.json").read_text())
    report["artifacts"] = [one for one in report["artifacts"] if one["name"] != "float.fast.onnx"]
    (copy / "report.json").write_text(json.dumps(report))
    code, _, err = qface(*args)
    assert (code, "is no file of this result" in err) == (1, True)
    assert contents(copy).keys() == known.keys() - {"float.fast.onnx"}
