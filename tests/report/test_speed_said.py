"""What is said first where int8 does not pay: on the page, the screen and the card, with the file to ship instead."""

import pytest
from report_page import shown

from qface_toolkit.report import misses_speed, to_markdown
from qface_toolkit.report.model_card import to_model_card
from qface_toolkit.report.summary import speed_alarm, verdict

SHIP = "Ship float.fast.onnx on processors like this one."


def slower(values, share=0.8):
    values["artifacts"][1]["times_faster_than_fast"] = share
    return values


def wanting(values, speed, **budget):
    values["recipe"]["values"]["budget"] = {"times_faster": speed, **budget}
    return values


def test_the_first_line_names_the_file_to_ship(values, make):
    report = make(slower(values))
    assert verdict(report)[0].text.startswith(f"{SHIP} int8.x86.onnx is slower than float.fast.onnx")
    assert shown(report).splitlines()[0].startswith(f"ALARM: {SHIP}"[:40])
    assert to_markdown(report).splitlines()[2].startswith(f"> **Alarm:** {SHIP}")
    card = to_model_card(report)
    assert card.split("\n---\n")[1].strip().splitlines()[2].startswith(f"> **Alarm:** {SHIP}")
    assert not misses_speed(report), "nothing was asked for"


def test_the_faster_of_the_float_files_is_named(values, make):
    values["artifacts"][0]["latency"] = values["artifacts"][3]["latency"] | {"p50_ms": 3.0}
    assert verdict(make(slower(values)))[0].text.startswith("Ship float.onnx on")


def test_a_file_that_pays_has_no_alarm(values, make):
    report = make(values)
    assert speed_alarm(report) is None
    assert "Ship" not in shown(report)


@pytest.mark.parametrize(("wanted", "missed"), [(1.2, False), (1.3, True), (5, True)])
def test_a_wanted_speed_is_met_or_missed(values, make, wanted, missed):
    report = make(wanting(values, wanted))
    assert misses_speed(report) == missed
    first = verdict(report)[0].text
    told = f"Missed: budget.times_faster wants {wanted:g} times the speed of float.fast.onnx"
    assert first.startswith(told) == missed
    assert shown(report).startswith(f"ALARM: {told}"[:60]) == missed
    assert "Ship" not in first, "it is faster all the same"


def test_a_missed_speed_of_a_slower_file_says_what_to_ship(values, make):
    assert SHIP in verdict(make(wanting(slower(values), 1.5)))[0].text


def test_layers_in_float_are_named_beside_the_speed_that_they_cost(values, make):
    point = {"layers": 0, "size_bytes": 10, "cosine_mean": 0.9, "cosine_min": 0.8}
    values["budget"] = {
        "cosine_mean_wanted": 0.99,
        "artifact": "int8.x86.onnx",
        "layers": 5,
        "kept": ["conv_1"],
        "images": 9,
        "points": [point, point | {"layers": 1, "cosine_mean": 0.995}],
    }
    said = verdict(make(wanting(values, 3, cosine_mean=0.99)))[0].text
    assert "budget.times_faster" in said and "budget.cosine_mean keeps 1 layers in float" in said


def test_a_file_that_was_not_timed_meets_nothing(values, make):
    values["artifacts"][1] |= {"latency": None, "latency_missing": "no clock", "times_faster": None}
    values["artifacts"][1]["times_faster_than_fast"] = None
    assert misses_speed(make(wanting(values, 1)))
    assert not misses_speed(make({**values, "recipe": {"name": "int8", "values": {"version": 1}}}))
