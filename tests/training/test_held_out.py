"""What is held out: read as far as it can be, judged by pairs where there are some, and what patience rests on."""

import numpy as np
import pytest
import torch
from tiny_student import STUDENT, options, people

from qface_toolkit.datasets import Example
from qface_toolkit.errors import CalibrationError, TrainingError
from qface_toolkit.pipeline import train
from qface_toolkit.training import held_out
from qface_toolkit.training.held_out import HeldOut, measure, read_held_out, tells_apart
from qface_toolkit.training.history import History
from qface_toolkit.training.rates import same_teacher


class Given:
    """Data of flat crops with these labels, None without any; the images at `broken` cannot be read."""

    name = "given"

    def __init__(self, labels, count=0, broken=()):
        self._labels = None if labels is None else np.array(labels)
        self.identities = 0 if labels is None else len(set(labels))
        self.count, self.broken = count or len(labels), broken

    def __len__(self):
        return self.count

    def labels(self):
        return self._labels

    def example(self, index):
        if index in self.broken:
            raise CalibrationError("no image", where=f"image {index}")
        label = -1 if self._labels is None else int(self._labels[index])
        return Example(np.full((112, 112, 3), index, np.uint8), label)


def test_broken_images_are_left_out():
    found = read_held_out(Given([0, 0, 1, 1, 2, 2], broken=(1, 4)))
    assert found.labels.tolist() == [0, 1, 1, 2] and found.crops[:, 0, 0, 0].tolist() == [0, 2, 3, 5]
    assert found.broken == 2 and len(found) == 4
    with pytest.raises(TrainingError, match="none of the 3 images that are held out") as raised:
        read_held_out(Given(None, 3, broken=range(3)))
    assert raised.value.where == "image 0: no image"


def test_of_many_images_of_a_person_some_are_judged(monkeypatch):
    monkeypatch.setattr(held_out, "_MOST", 6)
    assert read_held_out(Given([1, 0, 0, 0, 0, 1, 0])).crops[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 5]
    monkeypatch.setattr(held_out, "_MOST", 1)
    assert read_held_out(Given([1, 0, 0, 0, 0, 1, 1])).labels.tolist() == [1, 0, 0, 1]
    assert len(read_held_out(Given(None, 9))) == 9


def test_people_of_one_image_are_no_reason_to_judge_nobody_else():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), [4, 4, 1, 4, 4, 1])
    means = rng.standard_normal((6, 16))
    rows = torch.from_numpy((means[labels] + 0.1 * rng.standard_normal((len(labels), 16))).astype(np.float32))
    figures = measure(torch.nn.functional.normalize(rows), None, HeldOut(np.zeros((len(labels), 1)), labels))
    assert figures.pair_accuracy == pytest.approx(1.0) and figures.eer == pytest.approx(0.0)
    assert tells_apart(Given(labels)) and not tells_apart(Given([0, 1, 2, 2])) and not tells_apart(Given(None, 5))


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("data.held_out=2", "teacher.projection=true", "embedding_size=32"), "no pair is known"),
        ((), "no image is held out"),
    ],
)
def test_patience_without_a_figure_to_wait_for_is_refused(sets, words, tmp_path):
    given = options(people(tmp_path / "people", identities=1, images=12) / "person0", "loss.classes=0", "patience=1")
    given["sets"] = [*(one for one in given["sets"] if not one.startswith("data.held_out")), *sets]
    with pytest.raises(TrainingError, match=words):
        train(STUDENT, out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("beginnings", "best"), [((1,), 1), ((1, 2, 3), 3), ((1, 3), 3), ((1, 2), 3), ((), 1)])
def test_epochs_are_compared_under_one_teacher(beginnings, best):
    """The cosine to a later teacher is lower, and still the better one of that teacher's."""
    history = History()
    for epoch, score in enumerate((0.9, 0.5, 0.6)):
        history.is_best(score, epoch, anew=not same_teacher(history.best_epoch - 1, epoch, beginnings))
    assert history.best_epoch == best
    assert not history.is_best(None, 3, anew=True)
