"""The training loop: the loss by hand, and the promise that an interrupted run ends where an uninterrupted one does."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from qface_toolkit.errors import ArtifactError
from qface_toolkit.training.arcface import (
    ArcFaceOptions,
    LabelledCrops,
    arcface_loss,
    augmented,
    learning_rate_at,
    train,
)

OPTIONS = ArcFaceOptions(epochs=3, batch_size=8, learning_rate=0.05, margin_epochs=1.0, trait_weight=1.0, seed=4)


class Interrupted(Exception):
    """Stands for a kill between two epochs."""


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 7, 7), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(4 * 256, 8))


def labelled(identities=4, images=8):
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (identities, 112, 112, 3))
    labels = np.repeat(np.arange(identities), images)
    crops = np.clip(faces[labels] + rng.integers(-20, 20, (len(labels), 112, 112, 3)), 0, 255).astype(np.uint8)
    return LabelledCrops(crops, labels, rng.random((identities, 3), dtype=np.float32))


def trained(data, checkpoint=None, stop_after=None, options=OPTIONS):
    model, steps = network(), []

    def stop(epoch, _):
        if epoch == stop_after:
            raise Interrupted

    train(model, data, options, embedding_size=8, checkpoint=checkpoint, report=steps.append, epoch_done=stop)
    return model.state_dict(), steps


def test_without_a_margin_it_is_the_scaled_cross_entropy():
    cosines, labels = torch.tensor([[0.5, 0.1], [0.2, 0.3]]), torch.tensor([0, 1])
    expected = nn.functional.cross_entropy(cosines * 10, labels)
    assert float(arcface_loss(cosines, labels, scale=10, margin=0.0)) == pytest.approx(float(expected), rel=1e-5)


def test_the_margin_widens_the_right_angle():
    right = math.cos(math.acos(0.5) + 0.3)
    expected = math.log(1 + math.exp(10 * (0.1 - right)))
    loss = arcface_loss(torch.tensor([[0.5, 0.1]]), torch.tensor([0]), scale=10, margin=0.3)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_the_loss_falls_as_the_right_cosine_rises():
    losses = [
        float(arcface_loss(torch.tensor([[cosine, 0.0]]), torch.tensor([0]), scale=10, margin=0.5))
        for cosine in np.linspace(-1, 1, 41)
    ]
    assert all(later < earlier for earlier, later in zip(losses, losses[1:], strict=False))


def test_training_learns():
    _, steps = trained(labelled(), options=replace(OPTIONS, epochs=8))
    assert np.mean([step.accuracy for step in steps[-4:]]) > 0.9
    assert steps[-1].trait_error < steps[0].trait_error


def test_a_teacher_is_followed():
    data = labelled()
    rng = np.random.default_rng(1)
    teacher = rng.normal(size=(4, 8)).astype(np.float32)[data.labels]
    options = replace(OPTIONS, epochs=8, trait_weight=0.0, teacher_weight=10.0, largest_shift=0, mirrored=False)
    _, steps = trained(replace(data, teacher=teacher), options=options)
    assert steps[-1].teacher_error < 0.2 < steps[0].teacher_error
    assert {step.teacher_error for step in trained(data)[1]} == {0.0}


def test_what_a_teacher_says_of_each_image_stays_with_it():
    data = replace(labelled(), teacher=np.eye(32, 8, dtype=np.float32))
    options = replace(OPTIONS, epochs=1, teacher_weight=10.0)
    shuffled = replace(data, teacher=data.teacher[::-1].copy())
    assert trained(data, options=options)[1] != trained(shuffled, options=options)[1]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, optimizer):
    data, options = labelled(), replace(OPTIONS, optimizer=optimizer)
    whole, _ = trained(data, options=options)
    with pytest.raises(Interrupted):
        trained(data, tmp_path / "state.pt", stop_after=2, options=options)
    torch.manual_seed(99)
    resumed, steps = trained(data, tmp_path / "state.pt", options=options)
    assert {step.epoch for step in steps} == {2}
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_adam_moves_every_weight_alike_however_small_its_gradient():
    fresh, one_step = network().state_dict(), replace(OPTIONS, epochs=1, batch_size=32, warmup_epochs=0.0)
    moved = {}
    for optimizer in ("sgd", "adamw"):
        weights, _ = trained(labelled(), options=replace(one_step, optimizer=optimizer))
        moved[optimizer] = [float((weights[name] - fresh[name]).abs().mean()) for name in ("0.weight", "4.weight")]
    assert max(moved["adamw"]) < 1.1 * min(moved["adamw"])
    assert max(moved["sgd"]) > 1.4 * min(moved["sgd"])


def test_another_seed_gives_other_weights():
    data = labelled()
    one, two = trained(data)[0], trained(data, options=replace(OPTIONS, seed=5))[0]
    assert not torch.equal(one["4.weight"], two["4.weight"])


def test_a_state_of_other_options_is_not_continued(tmp_path):
    data = labelled()
    trained(data, tmp_path / "state.pt")
    with pytest.raises(ArtifactError, match="other options"):
        trained(data, tmp_path / "state.pt", options=replace(OPTIONS, epochs=4))


def test_the_learning_rate_rises_then_falls_to_zero():
    options = replace(OPTIONS, epochs=10, warmup_epochs=1.0)
    rates = [learning_rate_at(passed, options) for passed in np.linspace(0, 10, 101)]
    assert rates[0] < 0.01 * options.learning_rate * 1.1
    assert int(np.argmax(rates)) == 10
    assert rates[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("mirrored", [True, False])
def test_crops_are_moved_a_little_and_mirrored_if_wanted(mirrored):
    crops = np.zeros((64, 112, 112, 3), np.uint8)
    crops[:, 50, 30] = 255
    batch = augmented(crops, replace(OPTIONS, mirrored=mirrored, largest_shift=2), np.random.default_rng(0))
    assert batch.shape == (64, 3, 112, 112)
    rows, columns = np.nonzero((batch[:, 0] > 0).numpy().any(axis=0))
    assert set(rows) == set(range(48, 53))
    assert set(columns) == set(range(28, 33)) | (set(range(79, 84)) if mirrored else set())
    assert float(batch.max()) == pytest.approx((255 - 127.5) / 128)
