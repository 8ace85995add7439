"""What changes over a training: learning rates as published, weights that rise, and teachers that take turns."""

import pytest

from qface_toolkit.errors import TrainingError
from qface_toolkit.training.rates import class_weight, first_epochs, learning_rate, rising, teacher_of
from qface_toolkit.training.recipe import Losses, Optimizer, Teachers, load_training_recipe


def test_the_published_schedule_falls_after_its_milestones():
    options = load_training_recipe("pocketnet-kd").optimizer
    rates = [learning_rate(epoch + 0.5, 26, options) for epoch in range(26)]
    assert rates[:7] == [0.1] * 7 and rates[7:13] == pytest.approx([0.01] * 6)
    assert rates[13] == pytest.approx(1e-3) and rates[19] == pytest.approx(1e-4) and rates[25] == pytest.approx(1e-5)


def test_the_cosine_begins_after_the_warm_up_and_ends_at_nothing():
    options = Optimizer(learning_rate=0.2, warmup_epochs=1.0)
    assert learning_rate(0.0, 5, options) < 0.003
    assert learning_rate(1.0, 5, options) == pytest.approx(0.2)
    assert learning_rate(3.0, 5, options) == pytest.approx(0.1)
    assert learning_rate(5.0, 5, options) == pytest.approx(0.0, abs=1e-12)


def test_a_warm_up_longer_than_the_training_only_rises():
    options = Optimizer(learning_rate=0.2, warmup_epochs=10.0)
    assert learning_rate(1.0, 2, options) < learning_rate(1.9, 2, options) <= 0.2


def test_weights_rise():
    assert [rising(passed, 2.0) for passed in (0, 1, 2, 3)] == [0, 0.5, 1, 1]
    assert rising(0.0, 0.0) == 1
    assert class_weight(0.0, Losses(classes=2.0, class_epochs=4.0)) == pytest.approx(0.2)
    assert class_weight(4.0, Losses(classes=2.0, class_epochs=4.0)) == pytest.approx(2.0)


def test_each_epoch_has_its_own_teacher_as_published():
    begin = first_epochs(3, 3, Teachers())
    assert [teacher_of(epoch, begin) for epoch in range(3)] == [0, 1, 2]


def test_teachers_are_spread_or_begin_when_they_are_told():
    begin = first_epochs(2, 5, Teachers(spread=True))
    assert [teacher_of(epoch, begin) for epoch in range(5)] == [0, 0, 1, 1, 1]
    begin = first_epochs(3, 5, Teachers(from_epochs=(1, 4, 5)))
    assert [teacher_of(epoch, begin) for epoch in range(5)] == [0, 0, 0, 1, 2]


@pytest.mark.parametrize(
    ("teachers", "epochs", "options"),
    [(3, 5, Teachers()), (5, 3, Teachers()), (5, 3, Teachers(spread=True)), (2, 5, Teachers(from_epochs=(1, 2, 3)))],
)
def test_teachers_that_do_not_fit_the_epochs_are_refused(teachers, epochs, options):
    with pytest.raises(TrainingError, match=f"{teachers} teachers"):
        first_epochs(teachers, epochs, options)


def test_one_teacher_teaches_all_along():
    assert first_epochs(1, 9, Teachers()) == (1,)
    assert first_epochs(0, 9, Teachers()) == ()
