"""The inspection as people and programs see it, and what of it stands in the report."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from qface_toolkit.report import inspection_values, render_inspection, to_markdown
from qface_toolkit.report.inspection import fusion_figures
from qface_toolkit.runtimes.fusion import Layer, Operator, measure_fusion

WHY = "PRelu has no integer kernel in ONNX Runtime"


def prelu_network(count=3, name="prelu", kind="PRelu"):
    """Return what became of a network of convolutions whose activations are islands, a third of the time each."""
    operators, layers = [], []
    for number in range(count):
        conv, slopes = f"conv{number}", f"{name}{number}"
        layers.append(Layer("Conv", conv))
        tensors = [f"{part}{number}" for part in "abcde"]
        steps = (
            ("QLinearConv", "integer", conv, 6.0),
            ("DequantizeLinear", "move", "dq", 1.0),
            (kind, "float", slopes, 2.0),
            ("QuantizeLinear", "move", "q", 0.0),
        )
        for place, (what, arithmetic, source, time_us) in enumerate(steps):
            tensor = (tensors[place],), (tensors[place + 1],)
            operators.append(Operator(what, source, arithmetic, *tensor, source=source, time_us=time_us))
    return measure_fusion(operators, layers, lambda _: WHY, quantized=True)


def float_layer():
    operators = [
        Operator("DequantizeLinear", "dq", "move", ("a",), ("b",), time_us=1.0),
        Operator("Conv", "conv", "float", ("b",), ("c",), source="conv", time_us=2.0),
        Operator("QuantizeLinear", "q", "move", ("c",), ("d",), time_us=1.0),
    ]
    return measure_fusion(operators, [Layer("Conv", "conv")], lambda _: "Conv: because", quantized=True)


def printed(fusion, name="int8.x86.onnx"):
    console = Console(file=io.StringIO(), width=80)
    console.print(render_inspection({name: fusion}))
    return console.file.getvalue()


def test_where_it_was_seen_is_told():
    fusion = replace(prelu_network(), placement="checked on aarch64, onnxruntime 1.32.0")
    assert "\nPlacement checked on aarch64, onnxruntime 1.32.0.\n" in printed(fusion)
    assert "Placement" not in printed(prelu_network())


def test_islands_that_look_alike_are_one_line():
    text = printed(prelu_network())
    assert "All 3 convolutions run on integers." in text
    assert f"3 x PRelu, 33.3 % of the time: {WHY}" in " ".join(text.split())


def test_float_layers_are_named_with_their_reason():
    text = printed(float_layer())
    assert "Warning: none of 1 convolutions runs on integers." in text
    assert "Conv conv: because" in text
    assert "Conv, 100.0 % of the time: Conv: because" in text


def test_values_are_plain_json():
    values = inspection_values({"a.onnx": prelu_network(2)})
    assert json.loads(json.dumps(values)) == values
    [file] = values["files"]
    assert (file["name"], file["convolutions"], file["integer_convolutions"]) == ("a.onnx", 2, 2)
    assert file["operators"][0] == {
        "kind": "QLinearConv",
        "arithmetic": "integer",
        "count": 2,
        "time_ms": 0.012,
        "share": pytest.approx(2 / 3),
    }
    assert [island["operators"] for island in file["islands"]] == [["prelu0"], ["prelu1"]]


@pytest.mark.parametrize("name", ["[red]\x1b[31mname", "n" * 300])
def test_hostile_names_are_neither_markup_nor_wide(name):
    text = printed(prelu_network(1, name, kind=name), name)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert name[:10].replace("\x1b", "\N{REPLACEMENT CHARACTER}") in text


@pytest.mark.parametrize("integer", [2, 1])
def test_the_report_says_how_many_run_on_integers(values, make, integer):
    fusion = prelu_network(2)
    figures = fusion_figures(fusion) | {"integer_convolutions": integer}
    values["artifacts"][1] |= figures | {"islands": [island.model_dump() for island in figures["islands"]]}
    text = to_markdown(make(values))
    said = "all 2 convolutions run on integers" if integer == 2 else "warning: only 1 of 2 convolutions run on integers"
    assert f"int8.x86.onnx: {said}." in text.splitlines()
    assert f"| int8.x86.onnx | 1 PRelu | {WHY} | 2 | 33.3 % |" in text.splitlines()
    assert figures["float_islands"] == ("PRelu x2",)


def test_more_integer_layers_than_layers_is_no_report(values, make):
    values["artifacts"][1] |= {"convolutions": 1, "integer_convolutions": 2}
    with pytest.raises(ValueError, match="more layers run on integers"):
        make(values)
