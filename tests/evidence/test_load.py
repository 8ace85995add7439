"""Loading is timed, and its memory taken, in processes of their own, and what cannot be loaded says why."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from qface_toolkit.evidence import load
from qface_toolkit.evidence.load import Load, measure_loads


def write_network(path, elements):
    """Write a file whose constant of so many floats is added to its input."""
    constant = numpy_helper.from_array(np.ones(elements, np.float32), "c")
    info = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [elements]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "c"], ["y"])], "g", info[:1], info[1:], [constant])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.slow
def test_a_large_file_takes_more_memory_by_its_size(tmp_path):
    small, large = write_network(tmp_path / "small.onnx", 10), write_network(tmp_path / "large.onnx", 10_000_000)
    found = measure_loads({small: {}, large: {}}, rounds=2)
    assert list(found) == [small, large]
    assert all(len(one.samples_ms) == len(one.samples_bytes) == 2 for one in found.values())
    # At the peak the file's text may be held beside the tensors made of it, and not much more.
    assert 35_000_000 < found[large].peak_bytes - found[small].peak_bytes < 200_000_000
    assert 0 < found[small].p50_ms < found[large].p50_ms


def test_a_fork_takes_as_much_memory_as_a_process_that_is_started_anew(tmp_path):
    file = write_network(tmp_path / "small.onnx", 100_000)
    anew = "from qface_toolkit.evidence._load_once import _loaded"
    program = f"{anew}; print(_loaded({str(file)!r}, False, [])['bytes'])"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    # Without the pages of libraries that the parent had read, it would be half as much again.
    assert measure_loads({file: {}}, rounds=1)[file].peak_bytes == pytest.approx(int(told.stdout), rel=0.05)


def test_a_process_that_dies_is_told_of(tmp_path, monkeypatch):
    dies = "import onnxruntime, os; onnxruntime.SessionOptions = os.abort"
    monkeypatch.setattr(load, "PROGRAM", load.PROGRAM.replace("main()", f"\n{dies}; main()"))
    file = write_network(tmp_path / "fine.onnx", 10)
    assert measure_loads({file: {}})[file].endswith("exit code -6")


def test_what_cannot_be_loaded_says_why_and_spoils_nothing_else(tmp_path):
    fine, bad = write_network(tmp_path / "fine.onnx", 10), tmp_path / "bad.onnx"
    bad.write_bytes(b"no network")
    found = measure_loads({bad: {}, fine: {}}, rounds=1)
    assert isinstance(found[fine], Load)
    assert "failed" in found[bad] and "bad.onnx" in found[bad]
    assert "\n" not in found[bad]


def test_without_a_second_process_there_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(load.sys, "executable", str(tmp_path / "no python"))
    file = write_network(tmp_path / "fine.onnx", 10)
    assert "failed" in measure_loads({file: {}})[file]


def test_the_folder_that_one_stands_in_is_not_imported_from(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    file = write_network(tmp_path / "fine.onnx", 10)
    assert isinstance(measure_loads({file: {}}, rounds=1)[file], Load)


@pytest.mark.parametrize(("samples", "median"), [((3.0, 1.0, 2.0), 2.0), ((1.0, 2.0), 1.5), ((7.0,), 7.0)])
def test_medians(samples, median):
    found = Load(samples, tuple(round(10 * one) for one in samples))
    assert (found.p50_ms, found.peak_bytes) == (median, round(10 * median))
