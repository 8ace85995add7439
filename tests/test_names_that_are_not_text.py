"""Bytes where an ONNX file should have a name: every reader refuses them in one way, and no runtime's error is lost."""

import onnx
import pytest
from onnx import helper

from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.backends._profile import inspect_onnx
from qface_toolkit.errors import ArtifactError, CheckpointError
from qface_toolkit.models import load_model
from qface_toolkit.untrusted.onnx import read_onnx

MARK = "QFACEMARK"
PLACES = {
    "operator": lambda model: setattr(model.graph.node[0], "op_type", MARK),
    "domain": lambda model: setattr(model.graph.node[0], "domain", MARK),
    "node": lambda model: setattr(model.graph.node[0], "name", MARK),
    "output of a node": lambda model: model.graph.node[0].output.append(MARK),
    "attribute": lambda model: setattr(model.graph.node[0].attribute.add(), "name", MARK),
    "weights": lambda model: setattr(model.graph.initializer[0], "name", MARK),
    "input": lambda model: setattr(model.graph.input.add(), "name", MARK),
    "dimension": lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[0], "dim_param", MARK),
    "opset": lambda model: setattr(model.opset_import.add(), "domain", MARK),
}


def damaged_by(change, source, file):
    """Write a model with bytes that are not text where `change` puts the mark."""
    model = onnx.load(source)
    change(model)
    data = model.SerializeToString()
    assert data.count(MARK.encode()) == 1
    file.write_bytes(data.replace(MARK.encode(), b"\xb0" * len(MARK)))
    return file


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("read", [read_onnx, load_model])
def test_a_name_of_bytes_is_refused(read, place, finished, tmp_path):
    file = damaged_by(PLACES[place], finished / "out" / "float.onnx", tmp_path / "net.onnx")
    with pytest.raises(CheckpointError, match="is not text"):
        read(file)


def test_what_people_wrote_may_have_any_encoding(finished, tmp_path):
    def remark(model):
        model.graph.doc_string = MARK

    file = damaged_by(remark, finished / "out" / "float.onnx", tmp_path / "net.onnx")
    assert load_model(file).spec == load_model(finished / "out" / "float.onnx").spec


@pytest.mark.parametrize("look", [lambda file: open_onnx(file, 1, content=read_onnx(file).data), inspect_onnx])
def test_an_error_of_the_runtime_that_quotes_bytes_is_told(look, tmp_path, capfd):
    resize = helper.make_node("Resize", ["input", "", "scales"], ["output"], mode=b"\xb0")
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("input", "output")]
    scales = helper.make_tensor("scales", onnx.TensorProto.FLOAT, [4], [1, 1, 1, 1])
    graph = helper.make_graph([resize], "graph", values[:1], values[1:], [scales])
    file = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8), file)
    with pytest.raises(ArtifactError, match="refuses the file"):
        look(file)
    assert capfd.readouterr() == ("", "")
