"""Four sizes and what loading takes: the same on every page, and absent where a report does not know them."""

import io
import json

import pytest
from report_values import full
from rich.console import Console

from qface_toolkit.errors import ArtifactError
from qface_toolkit.report import read_report, render, to_markdown
from qface_toolkit.report.html import to_html
from qface_toolkit.report.model_card import to_model_card

TITLE = "Sizes, and what loading takes"
INT8 = ["int8.x86.onnx", "6.25", "0.78 (19.5 %)", "1.07 (27.0 %)", "1.10 (27.5 %)", "1.00 (25.6 %)", "30.5", "23.5"]
TORCH = ["int8.qnnpack.ts", "8", "0.99 (25.0 %)", "1.17 (29.5 %)", "1.20 (30.0 %)", "1.10 (28.2 %)", "-", "-"]


@pytest.fixture
def whole(values, make):
    return make(full(values))


def printed(report):
    console = Console(file=io.StringIO(), width=80)
    console.print(render(report))
    return console.file.getvalue()


@pytest.mark.parametrize("page", [to_markdown, to_model_card])
def test_pages_have_a_row_for_each_file(whole, page):
    text = page(whole)
    assert f"## {TITLE}" in text
    for row in (INT8, TORCH):
        assert f"| {' | '.join(row)} |" in text
    assert "- int8.qnnpack.ts was not loaded for this: not loaded there" in text


def test_html_has_the_same(whole):
    section = to_html(whole).split('<section id="sizes"')[1].split("</section>")[0]
    for row in (INT8, TORCH):
        cells = "".join(f"<td>{cell}</td>\n" for cell in row[1:])
        assert f'<th scope="row" class="text">{row[0]}</th>\n{cells}' in section
    assert "parameters x bits / 8" in section


def test_terminal_has_the_same_in_eighty_columns(whole):
    text = printed(whole)
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "int8.x86.onnx 6.25 0.78 19.5% 1.07 27.0% 1.10 27.5% 1.00 25.6%" in rows
    assert "float.onnx 32 3.97 100% 3.97 100% 4.00 100% 3.90 100%" in rows
    assert "int8.x86.onnx 30.5 ms, 23.5 MB" in " ".join(rows)
    assert max(map(len, text.splitlines())) <= 80


def test_large_files_fit_in_eighty_columns(values, make):
    values = full(values)
    for one in values["artifacts"]:
        one |= {kind: 100 * one[kind] for kind in ("size_bytes", "nominal_bytes", "payload_bytes", "compressed_bytes")}
        one["cost"] = None
    text = printed(make(values))
    assert "19.5%" in text and "…" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("page", [to_markdown, to_model_card, to_html, printed])
def test_without_such_figures_nothing_is_said(report, page):
    text = page(report)
    assert TITLE not in text
    assert "nominal" not in text


def test_without_a_float_file_there_are_no_shares(values, make):
    values = full(values)
    values["artifacts"], values["verification"] = values["artifacts"][1:3], None
    assert "| int8.x86.onnx | 6.25 | 0.78 | 1.07 | 1.10 | 1.00 | 30.5 | 23.5 |" in to_markdown(make(values))


def test_figures_are_read_again(whole, tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(whole.model_dump(mode="json")))
    assert read_report(tmp_path / "report.json") == whole


@pytest.mark.parametrize(
    "change",
    [
        {"load_ms": None},
        {"load_memory_bytes": None},
        {"load_missing": "both"},
        {"load_ms": 0.0},
        {"payload_bytes": -1},
        {"compressed_bytes": 1.5},
        {"weight_bits_mean": 0},
    ],
)
def test_figures_that_cannot_be_are_refused(values, tmp_path, change):
    values = full(values)
    values["artifacts"][1] |= change
    (tmp_path / "report.json").write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match="artifacts.1"):
        read_report(tmp_path / "report.json")
