"""What is said where drawn people of one skin tone lose more than the others."""

import numpy as np
import pytest
from test_evaluation import evaluation

from qface_toolkit.evidence.skin import LEAST_PEOPLE, tone_losses
from qface_toolkit.report.evaluation import Figure, GroupFigures
from qface_toolkit.report.summary import verdict


def tones(low, medium=1.0):
    return [
        {"tone": "dark", "people": 12, "cosine_mean": 0.99, "loss_ratio": 1.6, "low": low, "high": 1.9},
        {"tone": "medium", "people": 9, "cosine_mean": 0.99, "loss_ratio": 1.5, "low": medium, "high": 1.7},
        {"tone": "light", "people": 10, "cosine_mean": 0.997, "loss_ratio": 0.8, "low": 0.7, "high": 0.9},
    ]


@pytest.mark.parametrize(("low", "alarm"), [(1.1, False), (1.4, True)])
def test_a_tone_that_loses_more_for_certain_is_an_alarm(values, make, low, alarm):
    values["artifacts"][1]["agreement"]["tones"] = tones(low)
    told = [one for one in verdict(make(values)) if "Drawn people of dark skin lose 1.60 times" in one.text]
    assert bool(told) == alarm
    if alarm:
        assert told[0].alarm and "qface evaluate DIR --faces PEOPLE" in told[0].text


def test_the_tone_of_which_it_is_surest_is_named(values, make):
    values["artifacts"][1]["agreement"]["tones"] = tones(1.1, medium=1.4)
    assert any("Drawn people of medium skin lose 1.50 times" in one.text for one in verdict(make(values)))


def judged_beside(report, groups):
    """Return what is said of a report and an evaluation of its int8 file."""
    own = next(one for one in report.artifacts if one.name == "int8.x86.onnx")
    judged = evaluation({"tar_lost@1e-2": Figure(value=0.0)}, groups=groups)
    judged = judged.model_copy(update={"model": judged.model.model_copy(update={"sha256": own.sha256})})
    return [one.text for one in verdict(report, judged)]


def test_groups_without_figures_take_nobodys_place(values, make):
    values["artifacts"][1]["agreement"]["tones"] = tones(1.4)
    few = GroupFigures(images=8, people=4, skipped="4 people are too few")
    assert any("Drawn people of dark skin" in one for one in judged_beside(make(values), {"dark": few}))


def test_groups_of_real_people_stand_in_the_place_of_drawn_ones(values, make):
    values["artifacts"][1]["agreement"]["tones"] = tones(1.4)
    ratio = {"loss_ratio": Figure(value=1.05, low=1.0, high=1.1)}
    groups = {name: GroupFigures(images=50, people=12, figures=ratio) for name in ("dark", "light")}
    said = judged_beside(make(values), groups)
    assert any("dark loses most: 1.05 times" in one for one in said)
    assert not any("Drawn people of dark skin" in one for one in said)


def test_a_report_without_tones_says_nothing_of_them(values, make):
    assert not any("skin" in one.text for one in verdict(make(values)))


def test_drawn_people_are_told_by_their_paint():
    found = {one.name: one for one in tone_losses(np.full(256, 0.99))}
    assert found.keys() == {"dark", "medium", "light"}
    assert min(one.people for one in found.values()) >= LEAST_PEOPLE
    assert {round(one.loss_ratio.value, 9) for one in found.values()} == {1.0}
    assert sum(one.people for one in found.values()) == 32


def test_few_drawings_say_nothing_of_tones():
    assert tone_losses(np.full(64, 0.99)) == ()
