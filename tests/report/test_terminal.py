"""The table at the end of `compress`: it fits, it is plain in a pipe, and it says what the report says."""

import io

import pytest
from rich.console import Console

from qface_toolkit.report import render


def printed(report, width=80, **options):
    console = Console(file=io.StringIO(), width=width, **options)
    console.print(render(report))
    return console.file.getvalue()


def row(text, start):
    return next(line.split() for line in text.splitlines() if line.strip().startswith(start))


def test_rows_compare_float_and_compressed_in_each_runtime(report):
    text = printed(report)
    assert row(text, "float.onnx") == ["float.onnx", "4.00", "10.0", "11.0", "-", "1.00x", "-", "-"]
    assert row(text, "float.fast.onnx") == ["float.fast.onnx", "4.10", "5.00", "5.50", "1.00x", "2.00x", "-", "-"]
    assert row(text, "int8.x86.onnx") == ["int8.x86.onnx", "1.10", "4.00", "4.40", "1.25x", "2.50x", "0.9912", "0.9412"]
    assert row(text, "float model") == ["float", "model", "-", "20.0", "22.0", "-", "1.00x", "-", "-"]
    assert row(text, "int8.qnnpack.ts") == ["int8.qnnpack.ts", "1.20", "-", "-", "-", "-", "0.9800", "0.9300"]
    order = [text.index(part) for part in ("ONNX Runtime", "int8.x86.onnx", "torch", "float model", "int8.qnnpack.ts")]
    assert order == sorted(order)


def test_missing_latency_verification_and_verdict_are_told(report):
    text = printed(report)
    assert "int8.qnnpack.ts was not timed: no qnnpack here" in text
    assert "held-out drawings, 10 folds" in text
    assert row(text.split("held-out")[1], "int8.x86.onnx") == ["int8.x86.onnx", "97.1", "%", "1.0", "%", "88.0", "%"]
    assert "2.50 times as fast" in " ".join(text.split())


@pytest.mark.parametrize("name", ["int8.x86.onnx", "n" * 200], ids=["usual", "long"])
def test_it_fits_in_eighty_columns(values, make, name):
    values["artifacts"][2]["name"] = name + "2"
    values["artifacts"][2]["size_bytes"] = 123_456_789_012
    assert max(map(len, printed(make(values)).splitlines())) <= 80


def test_usual_names_are_not_broken(values, make):
    for artifact in values["artifacts"]:
        artifact["agreement"] = {**values["artifacts"][1]["agreement"], "cosine_mean": 0.99999, "cosine_min": 0.99998}
    text = printed(make(values))
    assert row(text, "float.fast.onnx")[-2:] == [">0.9999", ">0.9999"]
    assert row(text, "int8.qnnpack.ts")[-2:] == [">0.9999", ">0.9999"]


def test_a_pipe_gets_no_escape_codes(report):
    assert "\x1b" not in printed(report)
    assert "\x1b" in printed(report, force_terminal=True, color_system="standard")


def test_hostile_names_are_neither_markup_nor_escape_codes(values, make):
    values["artifacts"][2]["name"] = "[red]\x1b[31mname"
    text = printed(make(values))
    assert "\x1b" not in text
    assert "[red]" in text
