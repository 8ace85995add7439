"""qface benchmark: anything that can be opened is timed in turns beside the first one."""

import json
import shutil

import onnx
import pytest
from helpers import run_here
from onnx import TensorProto, helper

INT8 = "int8.x86.onnx"
QUICK = ("--rounds", "10", "--quiet")


@pytest.fixture(scope="module")
def folder(finished):
    return finished


@pytest.fixture
def qface(monkeypatch, capsys):
    return lambda *args: run_here(monkeypatch, capsys, *args)


def test_a_result_stands_for_its_float_files_and_this_machines_own(qface, folder):
    code, out, err = qface("benchmark", folder / "out", *QUICK)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    names = [line.split()[0] for line in out.splitlines()[2:6]]
    assert names == ["float.onnx", "float.fast.onnx", INT8, "int8.x86.ts"]
    assert "1 thread, 1 image a call, 10 rounds in turns" in " ".join(out.split())


def test_everything_that_opens_is_timed_and_told_as_json(qface, folder):
    models = (folder / "tiny.pth", folder / "out" / INT8, folder / "out" / "int8.x86.ts")
    code, out, err = qface("benchmark", *models, "--batch", "2", "--rounds", "12", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert (told["threads"], told["batch"], told["rounds"]) == (1, 2, 12)
    first, *others = told["models"]
    assert (first["times_faster"], first["times_faster_interval"]) == (None, None)
    assert [one["name"] for one in told["models"]] == ["tiny.pth", INT8, "int8.x86.ts"]
    for one in told["models"]:
        assert one["size_bytes"] > 0
        assert len(one["samples_ms"]) == 12
        assert one["images_per_second"] == pytest.approx(2000 / one["p50_ms"])
    for one in others:
        low, high = one["times_faster_interval"]
        assert 0 < low <= one["times_faster"] <= high


def test_files_of_one_name_are_told_apart(qface, folder, tmp_path):
    copy = shutil.copy(folder / "out" / INT8, tmp_path / INT8)
    code, out, _ = qface("benchmark", folder / "out" / INT8, copy, "--rounds", "10", "--json")
    assert (code, [one["name"] for one in json.loads(out)["models"]]) == (0, [str(folder / "out" / INT8), str(copy)])


def someones(path, batch="N"):
    """Write a file that says nothing of how images are prepared."""
    node = helper.make_node("ReduceMean", ["input"], ["embedding"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


def test_a_file_for_another_batch_is_refused_in_words(qface, folder, tmp_path):
    model = onnx.load(folder / "out" / INT8)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, tmp_path / "four.onnx")
    assert qface("benchmark", tmp_path / "four.onnx", "--batch", "4", *QUICK)[0] == 0
    code, out, err = qface("benchmark", tmp_path / "four.onnx", *QUICK)
    assert (code, out, "--batch 4" in err) == (1, "", True)


def test_a_file_that_does_not_say_how_images_are_prepared_is_timed(qface, tmp_path):
    code, out, err = qface("benchmark", someones(tmp_path / "someones.onnx"), "--rounds", "10", "--json")
    assert (code, err, json.loads(out)["models"][0]["name"]) == (0, "", "someones.onnx")


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_what_is_no_model_is_refused_in_words(content, qface, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(content)
    code, out, err = qface("benchmark", tmp_path / "bad.onnx", *QUICK)
    assert (code, out, str(tmp_path / "bad.onnx") in err) == (1, "", True)
    code, out, err = qface("benchmark", tmp_path, *QUICK)
    assert (code, out, "no compressed model" in err) == (1, "", True)


def test_nothing_to_time_is_wrong_usage(qface):
    assert qface("benchmark")[0] == 2
