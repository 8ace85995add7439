"""The head-to-head: its documents say what its result says, its reference is the package's, and it runs."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from qface_toolkit import load_model

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
ROW = {
    "model": "tiny",
    "name": "int8",
    "by": "qface_toolkit",
    "images": "drawings",
    "simulation": False,
    "seconds_to_make": 90.0,
    "real_faces": 0,
    "size_bytes": 12_345,
    "p50_ms": {"value": 1.5, "low": 1.25, "high": 2.0},
    "times_faster": 2.5,
    "load_ms": 30.4,
    "peak_memory_bytes": 64e6,
    "images_per_s_batch_8": 999.6,
    "cosine_mean": 0.99,
    "cosine_p1": 0.98,
    "worst_tone": {"name": "ITA below -30", "people": 20, "loss_ratio": {"value": 1.2, "low": 1.1, "high": 1.3}},
    "pair_accuracy": 0.9875,
    "tar": {"1e-4": 0.9},
}
PEER = ROW | {"name": "static", "by": "ONNX Runtime", "images": "faces", "real_faces": 300, "tar": {"1e-4": 0.88}}
RESULT = {"rows": [ROW, PEER]}


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch):
    """Import as the scripts do, from their own folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def module(name):
    return importlib.import_module(name)


def test_a_row_says_every_figure():
    line = module("tables").tables(RESULT).splitlines()[-2]
    expected = (
        "**int8**",
        "drawings",
        "12",
        "1.50 (1.25 to 2.00)",
        "2.50",
        "30",
        "64",
        "",
        "1000",
        "0.9900 / 0.9800",
        "1.20",
        "98.75",
        "90.00",
        "1.5",
        "0",
    )
    assert [cell.strip() for cell in line.strip("|").split("|")] == list(expected)


@pytest.mark.parametrize(
    "row, said",
    [
        (ROW | {"failed": "ImportError: no package | here"}, "cannot run: ImportError: no package / here"),
        (ROW | {"simulation": True}, "simulation, no file"),
    ],
)
def test_what_cannot_be_measured_says_why(row, said):
    titles, _, line = module("tables").tables({"rows": [row]}).splitlines()[-3:]
    assert said in line
    assert line.count("|") == titles.count("|")


def headline_rows():
    """Return a result whose front page has known figures, in another order and with rows that do not belong there."""
    tables = module("tables")
    times = {"float.onnx": 6.0, "float.fast.onnx": 3.0}
    lost = {"1e-4": {"value": -0.001, "low": -0.002, "high": 0.0123}}
    rows = [
        ROW
        | {"model": "prelu", "name": name, "by": "float" if name in times else "peer", "tar_lost": lost}
        | {"p50_ms": {"value": times.get(name, 1.5), "low": 1.0, "high": 9.0}}
        for name in reversed(tables.HEADLINE_ROWS)
    ]
    others = [ROW | {"model": "relu6"}, rows[0] | {"images": "faces", "size_bytes": 1}]
    return {"rows": [*rows, *others]}


@pytest.mark.parametrize("mark", ["head-to-head", "headline"])
def test_tables_go_between_the_marks_and_nowhere_else(mark):
    tables, result = module("tables"), headline_rows()
    before, after = f"before\n<!-- {mark}:begin -->\n", f"\n<!-- {mark}:end -->\nafter\n"
    new = tables.with_tables(f"{before}old{after}", result)
    assert new.startswith(before) and new.endswith(after) and "old" not in new
    assert tables.with_tables(new, result) == new
    assert tables.with_tables("no marks\n", result) == "no marks\n"


def test_the_headline_has_five_rows_and_speed_against_both_float_files():
    tables = module("tables")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in tables.headline(headline_rows()).splitlines()
    ]
    assert [row[0] for row in rows[2:]] == list(tables.HEADLINE_ROWS.values())
    assert [row[3] for row in rows if row[3].endswith("x")] == ["0.50x", "1.00x", "2.00x", "2.00x", "2.00x"]
    assert {row[4] for row in rows[2:]} == {"2.50x"}
    assert rows[2][-1] == "" and rows[4][-1] == "-0.10 (-0.20 to 1.23)"
    assert {row[1] for row in rows[2:]} == {"12"}


def test_a_plot_knows_what_it_was_drawn_from(tmp_path):
    plot = module("plot")
    plot.write_plot(RESULT, tmp_path / "plot.png")
    assert plot.read_digest(tmp_path / "plot.png") == plot.digest(RESULT)
    slower = {"rows": [ROW | {"p50_ms": {"value": 1.6, "low": 1.25, "high": 2.0}}, PEER]}
    assert plot.digest(slower) != plot.digest(RESULT)


def test_the_documents_and_the_plot_say_what_the_result_says():
    tables, plot = module("tables"), module("plot")
    result = json.loads(tables.RESULT.read_text())
    stale = [
        document.name
        for document in tables.DOCUMENTS
        if tables.with_tables(document.read_text(), result) != document.read_text()
    ]
    assert not stale, "run python benchmarks/tables.py"
    whole, front = (document.read_text() for document in tables.DOCUMENTS)
    assert tables.tables(result) in whole
    assert tables.headline(result) in front
    assert plot.read_digest(tables.PLOT) == plot.digest(result), "run python benchmarks/tables.py"


def test_names_beside_points_keep_apart():
    plot, axes = module("plot"), module("matplotlib.figure").Figure().subplots()
    axes.set_ylim(0, 1)
    heights = plot._apart([0.1, 0.5, 0.5, 0.5, 0.99, 0.995], axes)
    assert heights == sorted(heights) and min(np.diff(heights)) > 0.059
    assert max(heights) <= 0.99 and heights[0] == pytest.approx(0.1)


def test_the_interval_of_a_median_is_that_of_order_statistics():
    found = module("timing")._median_with_interval([float(number) for number in range(101)])
    assert found == {"value": 50.0, "low": 40.0, "high": 61.0}


def test_the_reference_follows_the_rule_of_the_package(monkeypatch, tmp_path):
    quantface, asked = module("peers.quantface"), []
    assert quantface.search is importlib.import_module("qface_toolkit.methods.quantface").search

    def search(network, learnt, held_out, options, **_):
        asked.append((network, len(learnt), options.weight_bits, options.activation_bits, options.steps))
        raise StopIteration

    monkeypatch.setattr(quantface, "search", search)
    effort = SimpleNamespace(steps=(3, 7), batch=2, rates=(0.1,), calibration=2, pool=2)
    materials = SimpleNamespace(effort=effort, model=load_model("demo"), threads=1)
    for peer in quantface.PEERS:
        with pytest.raises(StopIteration):
            peer.make(materials, tmp_path)
    assert asked == [(materials.model.network, 2, bits, bits, 7) for bits in (8, 6)]


@pytest.mark.slow
def test_the_short_head_to_head_runs(tmp_path):
    command = [sys.executable, BENCHMARKS / "head_to_head.py", "--quick", "--work", tmp_path / "work", "--rounds", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "work" / "head_to_head.json").read_text())["rows"]
    failed = {row["name"]: row["failed"] for row in rows if "failed" in row}
    assert all(name.startswith("NNCF") and "nncf" in why for name, why in failed.items()), failed
    found = {row["name"]: row for row in rows if "failed" not in row}
    assert found["float.onnx"]["times_faster"] == 1
    assert found["int8-fast, int8.x86.onnx"]["cosine_mean"] > found["quantize_static MinMax"]["cosine_mean"] > 0.98
    assert found["QuantFace's rule, w8a8"]["cosine_mean"] > found["QuantFace's rule, w6a6"]["cosine_mean"] > 0.8
    timed = [row for row in found.values() if not row["simulation"]]
    assert all(row["p50_ms"]["low"] <= row["p50_ms"]["value"] <= row["p50_ms"]["high"] for row in timed)
    assert all(10e6 < row["peak_memory_bytes"] < 1e9 and row["load_ms"] > 0 for row in timed)
    assert "| **int8-fast, int8.x86.onnx** |" in done.stdout
