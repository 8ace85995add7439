"""The parity ledger in a report: a matrix that can be read at a glance, and a verdict that names what is wrong."""

import pytest
from pydantic import ValidationError

from qface_toolkit.report.figures import fine_cosine
from qface_toolkit.report.markdown import to_markdown
from qface_toolkit.report.parity import largest_drops, matrix, parity_line, parity_said


def test_matrix_has_means_below_and_lowest_above_the_diagonal(report):
    assert matrix(report.parity) == [
        ["", "float", "x86.onnx sim", "x86.onnx", "qnnpack.ts"],
        ["float", "-", "0.94120", "0.94120", "0.93000"],
        ["x86.onnx sim", "0.99120", "-", "exact", "0.92000"],
        ["x86.onnx", "0.99120", "exact", "-", "0.92000"],
        ["qnnpack.ts", "0.98000", "0.97000", "0.97000", "-"],
    ]


@pytest.mark.parametrize(
    ("value", "shown"), [(1.0, ">0.99999"), (0.999995, ">0.99999"), (0.99999, "0.99999"), (-0.5, "-0.50000")]
)
def test_what_is_not_exact_is_never_shown_as_one(value, shown):
    assert fine_cosine(value) == shown
    assert fine_cosine(value, exact=True) == "exact"


def test_largest_drops_stand_in_order_of_execution(report):
    assert largest_drops(report.parity.layers)[1:] == [
        ["x", ">0.99999", "0.00000", "60.0 dB"],
        ["conv_1", "0.99500", "0.00500", "20.0 dB"],
    ]


def test_verdict_names_the_first_tensor_that_differs(report):
    assert parity_said(report.parity) == (
        "int8.x86.onnx (93 tensors) computes what was simulated, code by code, on 8 images. "
        "int8.qnnpack.ts differs from its simulation, first in pool (503 of 2048 codes, by 1 at most). "
        "Quantization loses most in conv_1, where the cosine to float falls by 0.00500 to 0.99500."
    )
    fine, line = parity_line(report.parity)
    assert not fine
    assert line == (
        "1 of 2 files compute exactly what was simulated; int8.qnnpack.ts differs from layer pool on "
        "(503 of 2048 codes, by 1 at most); "
        "the layer that loses most is conv_1 (0.0050 of its cosine)"
    )


def test_codes_that_could_not_be_compared_are_told(values, make):
    reason = "the archive has no operator for the tensor add"
    values["parity"]["codes"] = [
        {"artifact": "int8.x86.ts", "images": 0, "tensors": 0, "not_compared": reason},
    ]
    values["parity"]["layers"] = None
    block = make(values).parity
    assert parity_said(block) == f"The codes inside int8.x86.ts were not compared: {reason}."
    assert parity_line(block) == (True, "0 of 1 files computes exactly what was simulated")


@pytest.mark.parametrize(("exact", "said"), [(True, "the same embeddings to the bit"), (False, "cosine of 0.92000")])
def test_twins_are_compared(exact, said, values, make):
    values["parity"]["members"][3] = "int8.arm.onnx"
    for pair in values["parity"]["pairs"]:
        pair["second"] = pair["second"].replace("int8.qnnpack.ts", "int8.arm.onnx")
    values["parity"]["pairs"][-1]["exact"] = exact
    found = f"the x86 and the ARM file give {'' if exact else 'embeddings with a lowest '}{said}."
    assert f"Both run here, {found}" in parity_said(make(values).parity)
    values["parity"]["members"][3] = "int8.arm.onnx on arm"
    for pair in values["parity"]["pairs"]:
        pair["second"] = pair["second"].replace("int8.arm.onnx", "int8.arm.onnx on arm")
    assert f"Each on the processor that it is made for, {found}" in parity_said(make(values).parity)


def test_markdown_shows_matrix_and_drops(report):
    lines = to_markdown(report).splitlines()
    assert "| member | float | x86.onnx sim | x86.onnx | qnnpack.ts |" in lines
    assert "| x86.onnx | 0.99120 | exact | - | 0.92000 |" in lines
    assert r"| conv\_1 | 0.99500 | 0.00500 | 20.0 dB |" in lines


def test_a_report_of_an_older_version_has_no_ledger(values, make):
    del values["parity"]
    assert "Who says the same" not in to_markdown(make(values))


@pytest.mark.parametrize("change", ["missing", "twice", "stranger"])
def test_pairs_must_be_those_of_the_members(change, values, make):
    pairs = values["parity"]["pairs"]
    if change == "missing":
        pairs.pop()
    else:
        pairs.append(pairs[0] if change == "twice" else pairs[0] | {"second": "nobody"})
    with pytest.raises(ValidationError, match="the pairs are not those of the members"):
        make(values)
