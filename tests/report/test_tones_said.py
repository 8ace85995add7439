"""What is said where drawn people of one skin tone lose more than the others."""

import numpy as np
import pytest
from test_evaluation import evaluation

from qface_toolkit.evidence.skin import LEAST_PEOPLE, tone_losses
from qface_toolkit.report.evaluation import Figure, GroupFigures
from qface_toolkit.report.summary import verdict


def tones(low):
    return [
        {"tone": "dark", "people": 12, "cosine_mean": 0.99, "loss_ratio": 1.6, "low": low, "high": 1.9},
        {"tone": "light", "people": 10, "cosine_mean": 0.997, "loss_ratio": 0.8, "low": 0.7, "high": 0.9},
    ]


@pytest.mark.parametrize(("low", "alarm"), [(1.1, False), (1.4, True)])
def test_a_tone_that_loses_more_for_certain_is_an_alarm(values, make, low, alarm):
    values["artifacts"][1]["agreement"]["tones"] = tones(low)
    told = [one for one in verdict(make(values)) if "Drawn people of dark skin lose 1.60 times" in one.text]
    assert bool(told) == alarm
    if alarm:
        assert told[0].alarm and "qface evaluate DIR --faces PEOPLE" in told[0].text


def test_groups_of_real_people_stand_in_the_place_of_drawn_ones(values, make):
    values["artifacts"][1]["agreement"]["tones"] = tones(1.4)
    report = make(values)
    own = next(one for one in report.artifacts if one.name == "int8.x86.onnx")
    ratio = {"loss_ratio": Figure(value=1.05, low=1.0, high=1.1)}
    groups = {name: GroupFigures(images=50, people=12, figures=ratio) for name in ("dark", "light")}
    judged = evaluation({"tar_lost@1e-2": Figure(value=0.0)}, groups=groups)
    judged = judged.model_copy(update={"model": judged.model.model_copy(update={"sha256": own.sha256})})
    said = [one.text for one in verdict(report, judged)]
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
