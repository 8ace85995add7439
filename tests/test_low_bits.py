"""The benchmark below eight bits: its documents say what its result says, and it runs."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
FILE = {
    "model": "tiny",
    "recipe": "small",
    "file": "packed.x86.onnx",
    "size_ratio": 0.1694,
    "nominal_bytes": 600_400,
    "payload_bytes": 640_000,
    "size_bytes": 660_000,
    "compressed_bytes": 610_000,
    "p50_ms": {"value": 1.5},
    "load_ms": 30.4,
    "peak_memory_bytes": 64e6,
    "cosine_mean": 0.99,
    "cosine_p1": 0.98,
    "tar": {"1e-4": 0.9},
    "tar_lost": {"1e-4": {"value": 0.011, "low": -0.002, "high": 0.02}},
    "int8_of_the_same_weights": {"times_faster": 0.994, "load_ms": 20.2, "load_ratio": 1.5, "peak_memory_bytes": 50e6},
}
SIMULATED = {"recipe": "w6a6", "file": "simulation.safetensors", "payload_bytes": 700_000, "nominal_bytes": 650_000}


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch):
    """Import as the scripts do, from their own folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def cells(row):
    titles, _, line = importlib.import_module("low_tables").low_bits_tables({"rows": [row]}).splitlines()[-3:]
    assert titles.count("|") == line.count("|")
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_says_every_figure():
    expected = (
        "**small**",
        "660",
        "0.169",
        "610",
        "600",
        "1.50",
        "0.99",
        "30",
        "20",
        "64",
        "50",
        "0.9900 / 0.9800",
        "90.00",
        "1.10 (-0.20 to 2.00)",
    )
    assert cells(FILE) == list(expected)


def test_a_simulation_has_no_file_and_random_weights_no_accuracy():
    assert cells({"model": "tiny", **SIMULATED})[:6] == ["w6a6", "no file (700 packed)", "", "", "650", ""]
    random = {key: value for key, value in FILE.items() if not key.startswith(("cosine", "tar"))}
    assert cells(random)[-3:] == ["", "", ""]


def test_float_reaches_what_others_reach_and_lose():
    rows = [FILE | {"recipe": "float", "file": "float.onnx"}, FILE]
    del rows[0]["cosine_mean"]
    (line,) = [
        line
        for line in importlib.import_module("low_tables").low_bits_tables({"rows": rows}).splitlines()
        if line.startswith("| float")
    ]
    assert [cell.strip() for cell in line.strip("|").split("|")][-3:] == ["", "91.10", ""]


def test_the_documents_say_what_the_result_says():
    tables = importlib.import_module("low_tables")
    result = json.loads(tables.RESULT.read_text())
    whole, short = (document.read_text() for document in tables.DOCUMENTS)
    assert tables.low_bits_tables(result) in whole
    assert tables.short_table(result) in short
    assert [tables.with_low_bits(text, result) for text in (whole, short)] == [whole, short], (
        "run benchmarks/low_tables.py"
    )


@pytest.mark.slow
def test_it_runs(tmp_path):
    settings = ("steps=[calibrate]", "calibration.count=16")
    command = [
        sys.executable,
        BENCHMARKS / "low_bits.py",
        "demo=demo",
        "--recipes",
        "int8,w4a8,w6a6",
        "--drawn-people",
        "20",
        "--work",
        tmp_path,
        "--rounds",
        "5",
        "--processes",
        "1",
        *(part for one in settings for part in ("--set", one)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {row["recipe"]: row for row in json.loads((tmp_path / "low_bits.json").read_text())["rows"]}
    assert rows["w4a8"]["size_bytes"] < rows["int8"]["size_bytes"] < rows["float"]["size_bytes"]
    assert rows["w4a8"]["int8_of_the_same_weights"]["times_faster"] > 0
    assert "p50_ms" not in rows["w6a6"]
    assert rows["int8"]["cosine_mean"] > rows["w6a6"]["cosine_mean"] > 0.5
