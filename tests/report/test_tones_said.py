"""What is said where drawn people of one skin tone lose more than the others."""

import numpy as np
import pytest

from qface_toolkit.evidence.skin import LEAST_PEOPLE, tone_losses
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
