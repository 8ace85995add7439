"""Where the loss is, in a report: figures that add up to a sentence, a table and a picture."""

import xml.etree.ElementTree

import pytest
from pydantic import ValidationError
from rich.console import Console

from qface_toolkit.analysis.sensitivity import QuantizerEffect, Sensitivity
from qface_toolkit.report.markdown import to_markdown
from qface_toolkit.report.schema import SensitivityBlock
from qface_toolkit.report.sensitivity import sensitivity_figures, sensitivity_plot, sensitivity_said, worst_quantizers
from qface_toolkit.report.terminal import render_sensitivity


@pytest.fixture
def block(report):
    return report.sensitivity


def test_what_was_measured_is_what_is_told():
    effect = QuantizerEffect("weights", "conv_1", 0.25, -0.125)
    block = sensitivity_figures(Sensitivity("onnx", 16, 0.5, 0.375, 0.25, (effect,)))
    assert block.model_dump() == {
        "simulation": "onnx",
        "images": 16,
        "loss": 0.5,
        "activations_loss": 0.375,
        "weights_loss": 0.25,
        "quantizers": ({"kind": "weights", "name": "conv_1", "loss_alone": 0.25, "gain_left_out": -0.125},),
    }


def test_the_worst_comes_first_and_tiny_losses_are_not_shown_as_none(block):
    assert worst_quantizers(block, 4) == [
        ["conv_1", "weights", "0.00400", "+0.00350"],
        ["x", "activation", "0.00100", "+0.00000"],
        ["add", "activation", "<0.00001", "-0.00020"],
        ["same", "activation", "0.00000", "+0.00000"],
    ]
    assert len(worst_quantizers(block, 1)) == 1


def test_sentence(block):
    assert sensitivity_said(block) == (
        "Rounding loses 0.00900 "
        "(1 - cosine to the same weights unrounded, mean of 16 held-out drawings, in the onnx simulation): "
        "0.00500 by activations alone and 0.00420 by weights alone. "
        "Most is lost by the weights of conv_1: 0.00400 alone."
    )


def test_markdown_has_the_table_and_the_picture(report):
    lines = to_markdown(report).splitlines()
    assert "## Where the loss is" in lines
    assert "![loss of each quantizer](sensitivity.svg)" in lines
    assert r"| conv\_1 | weights | 0.00400 | +0.00350 |" in lines
    assert "*The worst 4 of 4 quantizers; report.json has them all*" in lines


def test_markdown_shows_twenty_rows_at_most(values, make):
    first = values["sensitivity"]["quantizers"][0]
    values["sensitivity"]["quantizers"] = [first | {"name": f"many{number}"} for number in range(30)]
    assert to_markdown(make(values)).count("| many") == 20


def test_a_report_without_it_says_nothing(values, make):
    values["sensitivity"] = None
    assert "sensitivity" not in to_markdown(make(values))


def shown(block):
    console = Console(width=80)
    with console.capture() as capture:
        console.print(render_sensitivity(block))
    return capture.get()


def test_terminal_says_how_many_are_not_shown(values):
    first = values["sensitivity"]["quantizers"][0]
    values["sensitivity"]["quantizers"] = [first | {"name": f"{'long' * 30}{number}"} for number in range(45)]
    out = shown(SensitivityBlock.model_validate(values["sensitivity"]))
    assert "and 5 more that lose less; --json has all" in out
    assert max(map(len, out.splitlines())) <= 80


def test_picture_is_the_same_each_time_and_names_the_worst(block):
    picture = sensitivity_plot(block)
    assert picture == sensitivity_plot(block)
    assert xml.etree.ElementTree.fromstring(picture).tag.endswith("svg")
    for said in (b"conv_1", b"everything on: 0.00900", b"activation", b"weights"):
        assert said in picture
    assert b"dc:date" not in picture


def test_picture_takes_any_name(values):
    for one in values["sensitivity"]["quantizers"]:
        one["name"] = f"$<script>&{one['name']}_{{$"
    picture = sensitivity_plot(SensitivityBlock.model_validate(values["sensitivity"]))
    assert b"&lt;script&gt;" in picture
    assert b"<script" not in picture


def test_picture_of_nothing():
    block = SensitivityBlock(simulation="onnx", images=1, loss=0, activations_loss=0, weights_loss=0, quantizers=())
    assert sensitivity_plot(block).startswith(b"<?xml")
    assert sensitivity_said(block).endswith("0.00000 by weights alone.")


@pytest.mark.parametrize(("key", "value"), [("loss", -0.1), ("loss", 2.5), ("images", 0), ("loss", float("nan"))])
def test_nonsense_is_refused(key, value, values):
    values["sensitivity"][key] = value
    with pytest.raises(ValidationError):
        SensitivityBlock.model_validate(values["sensitivity"])
