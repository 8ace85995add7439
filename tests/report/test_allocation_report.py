"""Widths in a report: what is said holds the figures, odd names stay harmless, and old reports still load."""

import pytest
from pydantic import ValidationError

from qface_toolkit.report import to_markdown
from qface_toolkit.report.budget import allocation_said, allocation_section, layer_rows, width_rows
from qface_toolkit.report.schema import AllocationBlock, LayerWidth

LAYERS = (
    LayerWidth(name="first|<b>", weights=100, bits=8, loss=0.001),
    LayerWidth(name="second", weights=1001, bits=3, loss=0.02),
    LayerWidth(name="third", weights=1000, bits=3, loss=0.01),
)
VALUES = {
    "bytes_wanted": 0.2,
    "losses": "measured",
    "images": 16,
    "layers": LAYERS,
    "bound": 0.03,
    "loss_predicted": 0.031,
    "loss_measured": 0.028,
    "cosine_mean": 0.96,
    "held_out": 64,
    "size_bytes": 1000,
    "estimated_bytes": 990,
    "files": {"packed.x86.onnx": 998},
    "float_bytes": 5000,
}


def block(**changed):
    return AllocationBlock(**VALUES | changed)


def test_what_is_said_holds_the_figures():
    said = allocation_said(block())
    for figure in (
        "at most 0.2 of float.onnx",
        "3 to 8 bits",
        "3.24 a weight",
        "0.1996 of float.onnx",
        "0.0310",
        "3.23% above",
        "0.0280",
    ):
        assert figure in said, said
    assert "mean cosine of 0.97" in allocation_said(block(bytes_wanted=None, cosine_mean_wanted=0.97, bound=980))


def test_rows_add_up():
    assert width_rows(block()) == [
        ["8", "1", "100", "100", "0.00100"],
        ["3", "2", "2,001", "751", "0.03000"],
    ]
    assert [row[3] for row in layer_rows(block())] == ["100", "376", "375"]


def test_the_gap_is_of_what_was_minimised():
    assert block().gap == pytest.approx(0.001 / 0.031)
    assert block(bytes_wanted=None, cosine_mean_wanted=0.9, bound=980.1).gap == pytest.approx(0.01)


def test_the_report_shows_them(values, make):
    assert "## Widths of weights" not in to_markdown(make(values)), "an old report has none"
    text = to_markdown(make(values | {"allocation": block().model_dump()}))
    assert "## Widths of weights" in text
    assert "first" in text and "<b>" not in text
    assert [len(table.rows) for table in allocation_section(block()).blocks] == [2, 3]


def test_widths_are_allocated_for_one_thing():
    for wish in ({"cosine_mean_wanted": 0.9}, {"bytes_wanted": None}):
        with pytest.raises(ValidationError, match="either for bytes or for a cosine"):
            block(**wish)
