"""The loop: it learns, a kill costs nothing, and what cannot go on says why."""

import json

import pytest
import torch
from tiers import in_tiers
from tiny_student import STEPS, STUDENT, options, people

from qface_toolkit.errors import ArtifactError, CalibrationError, QFaceError, RecipeError, TrainingError
from qface_toolkit.models import load_model
from qface_toolkit.pipeline import train
from qface_toolkit.training.state import read_state, state_bytes


class Killed(BaseException):
    """Stands for a kill: nothing catches it, and nothing is written after it."""


def killed_after(steps):
    def tell(step):
        def progress(done, total):
            if step == "learn" and done == steps:
                raise Killed

        return progress

    return tell


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def whole(crops, tmp_path_factory):
    """Return the folder of a training that nothing interrupted, and its report."""
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, train(STUDENT, out=out, **options(crops))


def test_it_learns_and_tells_how(whole):
    out, report = whole
    assert {file.name for file in out.iterdir()} == {
        *("student.safetensors", "training.json", "report.html", "report.md", "model_card.md", "manifest.json"),
        *("epoch-001.safetensors", "epoch-002.safetensors"),
    }
    assert report.steps == STEPS == report.points[-1].step == len(report.points)
    assert report.images == STEPS * 4 and report.data.examples == 16 and report.data.held_out == 8
    assert report.points[-1].parts.keys() == {"kd", "classes", "accuracy"}
    assert all(point.loss == pytest.approx(point.parts["kd"] + point.parts["classes"]) for point in report.points)
    assert report.epochs[-1].tar.keys() <= {"1e-2", "1e-3"} and report.epochs[-1].eer is not None
    assert json.loads((out / "training.json").read_bytes())["steps"] == STEPS


def test_the_student_is_a_checkpoint_like_others(whole):
    model = load_model(whole[0])
    assert model.spec.name == whole[1].student.name and model.spec.origin == "trained by qface from demo"
    last = load_model(whole[0] / "epoch-002.safetensors").network.state_dict()
    assert all(torch.equal(value, last[key]) for key, value in model.network.state_dict().items())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(whole, crops, tmp_path):
    again = train(STUDENT, out=tmp_path / "again", **options(crops))
    assert again.student.sha256 == whole[1].student.sha256
    other = train(STUDENT, out=tmp_path / "other", seed=1, **options(crops))
    assert other.student.sha256 != whole[1].student.sha256


@pytest.mark.parametrize("steps", in_tiers(range(1, STEPS + 1), fast=[5]))
def test_a_kill_costs_nothing(steps, whole, crops, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(Killed):
        train(STUDENT, out=out, tell=killed_after(steps), **options(crops))
    assert not out.exists()
    resumed = train(STUDENT, out=out, resume=True, **options(crops))
    assert resumed.student.sha256 == whole[1].student.sha256
    assert [point.loss for point in resumed.points] == [point.loss for point in whole[1].points]
    assert [end.cosine_mean for end in resumed.epochs] == [end.cosine_mean for end in whole[1].epochs]
    assert resumed.resumed == (1 if steps > 2 else 0)


@pytest.mark.slow
def test_an_average_survives_a_kill_too(crops, tmp_path):
    averaged = options(crops, "average=0.9", "optimizer.name=adamw")
    found = train(STUDENT, out=tmp_path / "whole", **averaged)
    with pytest.raises(Killed):
        train(STUDENT, out=tmp_path / "out", tell=killed_after(5), **averaged)
    assert train(STUDENT, out=tmp_path / "out", resume=True, **averaged).student.sha256 == found.student.sha256


def test_unfinished_work_of_another_training_is_refused(crops, tmp_path):
    with pytest.raises(Killed):
        train(STUDENT, out=tmp_path / "out", tell=killed_after(5), **options(crops))
    with pytest.raises(ArtifactError, match="another job"):
        train(STUDENT, out=tmp_path / "out", resume=True, **options(crops, "loss.kd=50"))
    with pytest.raises(ArtifactError, match="unfinished work"):
        train(STUDENT, out=tmp_path / "out", **options(crops))


@pytest.mark.slow
def test_images_that_changed_meanwhile_are_refused(tmp_path):
    crops = people(tmp_path / "people")
    with pytest.raises(Killed):
        train(STUDENT, out=tmp_path / "out", tell=killed_after(5), **options(crops))
    (crops / "person0" / "0.png").unlink()
    with pytest.raises(TrainingError, match="not those that this training began with"):
        train(STUDENT, out=tmp_path / "out", resume=True, **options(crops))


@pytest.mark.slow
def test_patience_keeps_the_best_epoch(crops, tmp_path):
    # A rate at which it only gets worse after the first epoch.
    wild = options(crops, "epochs=6", "patience=2", "optimizer.learning_rate=2.0", "optimizer.schedule=constant")
    report = train(STUDENT, out=tmp_path / "out", **wild)
    scores = [end.cosine_mean for end in report.epochs]
    best = scores.index(max(scores)) + 1
    assert report.chosen_epoch == best
    assert len(scores) == best + 2 and report.finished == "no better for 2 epochs" or len(scores) == 6
    kept = load_model(tmp_path / "out" / f"epoch-{best:03d}.safetensors").network.state_dict()
    assert all(
        torch.equal(value, kept[key]) for key, value in load_model(tmp_path / "out").network.state_dict().items()
    )


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_state(crops, tmp_path, monkeypatch):
    from qface_toolkit.training import lesson

    calls = []

    def poisoned(found, wanted, kind):
        calls.append(1)
        return (found * (float("nan") if len(calls) == 6 else 1.0)).mean()

    monkeypatch.setattr(lesson, "distance", poisoned)
    with pytest.raises(TrainingError, match=r"the loss \(kd\) is not a finite number any more in step 6 \(epoch 2\)"):
        train(STUDENT, out=tmp_path / "out", **options(crops))
    assert load_model(tmp_path / "out.partial" / "epoch-001.safetensors").spec.embedding_size == 128
    monkeypatch.undo()
    assert train(STUDENT, out=tmp_path / "out", resume=True, **options(crops)).resumed == 1


@pytest.mark.slow
def test_a_full_disk_is_told_and_costs_nothing(crops, whole, tmp_path, monkeypatch):
    from helpers import fill_disk

    with monkeypatch.context() as patch, pytest.raises(ArtifactError, match="disk is full"):
        fill_disk(patch, "epoch-002.safetensors")
        train(STUDENT, out=tmp_path / "out", **options(crops))
    assert not (tmp_path / "out").exists()
    resumed = train(STUDENT, out=tmp_path / "out", resume=True, **options(crops))
    assert resumed.student.sha256 == whole[1].student.sha256


def test_without_labels_the_teacher_is_enough(crops, tmp_path):
    report = train(STUDENT, out=tmp_path / "out", **options(crops / "person0", "data.held_out=0", "epochs=1"))
    assert report.data.identities == 0 and report.points[-1].parts.keys() == {"kd"}
    assert report.epochs[-1].cosine_mean is None


@pytest.mark.slow
def test_without_a_teacher_labels_are_enough(crops, tmp_path):
    report = train(STUDENT, out=tmp_path / "out", **options(crops, "epochs=1", teachers=()))
    assert report.teachers == () and report.points[-1].parts.keys() == {"classes", "accuracy"}
    with pytest.raises(TrainingError, match="nothing to learn from"):
        train(STUDENT, out=tmp_path / "none", **options(crops / "person0", "data.held_out=0", teachers=()))


@pytest.mark.slow
def test_each_snapshot_teaches_its_epoch(whole, crops, tmp_path):
    pattern = str(whole[0] / "epoch-*.safetensors")
    report = train(STUDENT, out=tmp_path / "out", **options(crops, teachers=(pattern,)))
    assert [(one.name, one.from_epoch) for one in report.teachers] == [
        ("out/epoch-001.safetensors", 1),
        ("out/epoch-002.safetensors", 2),
    ]
    with pytest.raises(TrainingError, match="2 teachers for 3 epochs"):
        train(STUDENT, out=tmp_path / "long", **options(crops, "epochs=3", teachers=(pattern,)))


@pytest.mark.slow
def test_another_size_of_embedding_needs_a_projection(crops, tmp_path):
    small = ("embedding_size=64", "epochs=1")
    with pytest.raises(TrainingError, match="has 128 numbers, and the student's 64"):
        train(STUDENT, out=tmp_path / "out", **options(crops, *small))
    report = train(STUDENT, out=tmp_path / "out", **options(crops, *small, "teacher.projection=true"))
    assert report.student.embedding_size == 64
    model = load_model(tmp_path / "out")
    assert model.spec.embedding_size == 64 and not any("projection" in key for key in model.network.state_dict())


@pytest.mark.slow
def test_a_checkpoint_goes_on(whole, crops, tmp_path):
    report = train(whole[0] / "student.safetensors", out=tmp_path / "out", **options(crops, "width=1", "epochs=1"))
    assert report.student.started_from == "student.safetensors" and report.student.name == whole[1].student.name


@pytest.mark.parametrize(
    ("sets", "error", "words"),
    [
        (("batch_size=64",), TrainingError, "16 images to learn from, and a batch takes 64"),
        (("augment.mix=0.5",), TrainingError, "belong to no identity"),
        (("data.held_out=6",), CalibrationError, "held out"),
        (("epoch=3",), RecipeError, "did you mean epochs"),
        (("optimizer.schedule=step",), RecipeError, "needs milestones"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(sets, error, words, crops, tmp_path):
    with pytest.raises(error, match=words):
        train(STUDENT, out=tmp_path / "out", **options(crops, *sets))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_broken_images_are_skipped_counted_and_named(tmp_path):
    crops = people(tmp_path / "people", images=8)
    (crops / "person1" / "3.png").write_bytes(b"\x89PNG no image")
    report = train(STUDENT, out=tmp_path / "out", **options(crops, "data.held_out=0"))
    assert report.skipped_count == 1 and "person1/3.png" in report.skipped[0].why


@pytest.mark.slow
def test_hardly_an_image_that_can_be_read_ends_it(tmp_path):
    crops = people(tmp_path / "people", images=30)
    for file in sorted(crops.glob("person[0-3]/*.png")):
        file.write_bytes(b"no image")
    with pytest.raises(TrainingError, match="images could not be read, of"):
        train(STUDENT, out=tmp_path / "out", **options(crops, "data.held_out=0"))


def test_a_state_that_is_damaged_is_refused():
    data = state_bytes({"a": torch.arange(3)}, {"b": [0.1]})
    assert read_state(data, "state.pt")[1] == {"b": [0.1]}
    for cut in (0, 10, len(data) // 2, len(data) - 30):
        with pytest.raises(ArtifactError, match="damaged"):
            read_state(data[:cut], "state.pt")


def test_a_state_runs_no_code():
    import io
    import pickle

    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    buffer = io.BytesIO()
    torch.save({"tensors": Evil(), "values": "{}"}, buffer, pickle_module=pickle)
    with pytest.raises(ArtifactError, match="damaged"):
        read_state(buffer.getvalue(), "state.pt")


@pytest.mark.slow
def test_without_being_told_a_twentieth_is_held_out(tmp_path):
    crops = people(tmp_path / "people", identities=2, images=40)
    report = train(STUDENT, out=tmp_path / "out", **options(crops / "person0", "data.held_out=null", "epochs=1"))
    assert (report.data.examples, report.data.held_out) == (38, 2)


@pytest.mark.parametrize(
    ("sets", "error", "words"),
    [
        (("loss.kd=0", "loss.classes=0"), TrainingError, "loss.kd and loss.relation are 0, and loss.classes is 0"),
        (("data.count=5",), TrainingError, "for sets that are drawn"),
        (("loss.traits=1",), TrainingError, "how the people on these images look"),
        pytest.param(
            *(("device=cuda",), TrainingError, "no GPU that torch can use"),
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
        (("patience=2", "data.held_out=0"), RecipeError, "patience needs data.held_out"),
    ],
)
def test_what_would_be_ignored_is_refused(sets, error, words, crops, tmp_path):
    with pytest.raises(error, match=words):
        train(STUDENT, out=tmp_path / "out", **options(crops, *sets))


@pytest.mark.slow
def test_a_teacher_that_does_not_say_how_images_are_prepared_is_told(crops, tmp_path):
    import onnx

    from qface_toolkit.backends import float_files
    from qface_toolkit.canonical.canonicalise import canonicalise

    demo = load_model("demo")
    silent = onnx.load_from_string(
        float_files()[0].write(demo, canonicalise(demo.network, demo.spec.input_size), {"origin": "nowhere"})
    )
    onnx.save(silent, tmp_path / "silent.onnx")
    given = options(crops, "epochs=1", teachers=(tmp_path / "silent.onnx",))
    with pytest.raises(QFaceError, match=r"teacher\.model\.mean=MEAN"):
        train(STUDENT, out=tmp_path / "out", **given)
    told = ("teacher.model.mean=127.5", "teacher.model.std=128", "teacher.model.color=rgb")
    report = train(STUDENT, out=tmp_path / "out", **{**given, "sets": (*given["sets"], *told)})
    assert report.teachers[0].name == "silent.onnx"
