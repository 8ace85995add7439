"""Losses by hand: margins widen the right angle, distances are those of the papers."""

import math

import pytest
import torch
from torch.nn import functional

from qface_toolkit.training.losses import AdaFace, arcface, cosface, distance, relation


def test_arcface_widens_the_angle():
    found = arcface(torch.tensor([0.5, -0.2]), 0.3)
    assert found.tolist() == pytest.approx([math.cos(math.acos(0.5) + 0.3), math.cos(math.acos(-0.2) + 0.3)], abs=1e-6)


def test_arcface_goes_on_falling_past_the_turn():
    cosines = torch.linspace(-0.9999, 0.9999, 200)
    assert (arcface(cosines, 0.5).diff() > 0).all()


def test_cosface_takes_the_margin_away():
    assert cosface(torch.tensor([0.5]), 0.35).item() == pytest.approx(0.15)


def test_adaface_asks_more_of_a_longer_embedding():
    margin = AdaFace().eval()
    margin.mean.fill_(10.0)
    margin.deviation.fill_(2.0)
    cosines, lengths = torch.full((3,), 0.5), torch.tensor([8.0, 10.0, 12.0])
    low, middle, high = margin(cosines, 0.4, lengths).tolist()
    # At the mean length the margin is all in the cosine; see section 3.3.
    assert middle == pytest.approx(0.5 - 0.4, abs=1e-6)
    quality = 2.0 / 2.001 * 0.333
    assert high == pytest.approx(math.cos(math.acos(0.5) - 0.4 * quality) - 0.4 * (1 + quality), abs=1e-5)
    assert low == pytest.approx(math.cos(math.acos(0.5) + 0.4 * quality) - 0.4 * (1 - quality), abs=1e-5)


def test_adaface_remembers_lengths_only_while_it_learns():
    margin = AdaFace()
    margin(torch.zeros(4), 0.4, torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert margin.mean.item() == pytest.approx(20 + 0.01 * (2.5 - 20))
    margin.eval()(torch.zeros(4), 0.4, torch.full((4,), 50.0))
    assert margin.mean.item() == pytest.approx(19.825)


def test_the_published_distance_is_that_of_normalised_embeddings():
    found, wanted = torch.randn(5, 8), torch.randn(5, 8)
    cosines = functional.cosine_similarity(found, wanted)
    assert distance(found, wanted, "mse").item() == pytest.approx((2 * (1 - cosines) / 8).mean().item(), rel=1e-5)
    assert distance(found, wanted, "cosine").item() == pytest.approx((1 - cosines).mean().item(), rel=1e-5)


def test_relations_do_not_see_how_space_is_turned():
    wanted = torch.randn(6, 8)
    turned = wanted @ torch.linalg.qr(torch.randn(8, 8)).Q
    assert relation(turned, wanted).item() == pytest.approx(0, abs=1e-10)
    assert relation(torch.randn(6, 4), wanted).item() > 0.01
