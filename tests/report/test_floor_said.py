"""What is said first of a damaged file, what the exit code is, and what a check says of it."""

import pytest
from report_page import shown

from qface_toolkit.gate.accuracy import floor_findings
from qface_toolkit.report import misses_floor, to_markdown
from qface_toolkit.report.model_card import to_model_card
from qface_toolkit.report.summary import verdict

SAID = "Damaged, do not ship: int8.x86.onnx"


def with_floor(values, floor, mean=0.93):
    values["recipe"]["values"]["budget"] = {"floor_cosine": floor}
    values["artifacts"][1]["agreement"]["cosine_mean"] = mean
    return values


def test_the_first_line_names_the_file_and_what_to_do(values, make):
    report = make(with_floor(values, 0.98))
    assert misses_floor(report)
    first = verdict(report)[0]
    assert first.alarm and first.text.startswith(SAID)
    assert "0.9300" in first.text and "0.98" in first.text and "--set budget.cosine_mean=0.99" in first.text
    assert shown(report).startswith(f"ALARM: {SAID}")
    assert to_markdown(report).splitlines()[2].startswith(f"> **Alarm:** {SAID}")
    card = to_model_card(report)
    assert card.split("\n---\n")[1].strip().splitlines()[2].startswith(f"> **Alarm:** {SAID}")


def remedies(values, make, **budget):
    values["recipe"]["values"]["budget"] |= budget
    return verdict(make(values))[0].text.partition("Try ")[2]


def test_remedies_are_what_can_be_done(values, make):
    values = with_floor(values, 0.98)
    assert "int8-best" in remedies(values, make)
    assert "budget.cosine_mean=0.995" in remedies(values, make, cosine_mean=0.99)
    assert "cosine_mean" not in remedies(values, make, cosine_mean=None, bytes=0.3)
    values["recipe"]["name"] = "int8-best"
    assert "int8-best" not in remedies(values, make, bytes=None)
    values["artifacts"][1]["runtime"] = "torch"
    assert "budget.cosine_mean" not in remedies(values, make)


def test_damage_comes_before_speed_and_both_are_said(values, make):
    values["artifacts"][1]["times_faster_than_fast"] = 0.8
    first, second, *others = verdict(make(with_floor(values, 0.98)))
    assert first.text.startswith(SAID) and second.text.startswith("Ship float.fast.onnx")
    assert not {first, second} & {*others}


@pytest.mark.parametrize(("floor", "mean", "missed"), [(None, 0.5, False), (0.98, 0.98, False), (0.98, 0.9799, True)])
def test_a_floor_is_met_or_missed(values, make, floor, mean, missed):
    report = make(with_floor(values, floor, mean))
    assert misses_floor(report) == missed
    assert ("Damaged" in shown(report)) == missed
    found = [one for one in floor_findings(report) if one.artifact == "int8.x86.onnx"]
    assert [one.outcome for one in found] == ([] if floor is None else ["failed" if missed else "passed"])


def test_float_files_are_never_damaged(values, make):
    report = make(with_floor(values, 0.98))
    assert not {one.artifact for one in floor_findings(report)} & {"float.onnx", "float.fast.onnx"}
