"""ONNX files of strangers: refused in words, bounded in memory and time, and nothing outside their folder is read."""

import onnx
import pytest
from onnx import TensorProto, helper
from qdq_files import whole

from qface_toolkit.backends._profile import inspect_onnx
from qface_toolkit.errors import ArtifactError, CheckpointError, QFaceError
from qface_toolkit.untrusted import limits
from qface_toolkit.untrusted import onnx as reader

IMAGE = ("n", 3, 8, 8)


def model(*nodes, constants=(), shape=IMAGE, more_inputs=()):
    entering = [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape), *more_inputs]
    leaving = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)]
    graph = helper.make_graph(list(nodes), "hostile", entering, leaving, list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def node(kind, *inputs, output="embedding", **attributes):
    return helper.make_node(kind, list(inputs), [output], **attributes)


def shape_of(*sizes):
    return helper.make_tensor("shape", TensorProto.INT64, [len(sizes)], sizes)


def declared():
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT)
    tensor.dims.extend([1 << 20, 1 << 12])
    return tensor


SECOND = helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])
REFUSED = {
    "cycle": (
        model(node("Add", "image", "b", output="a"), node("Add", "a", "image", output="b"), node("Relu", "b")),
        "not acyclic",
    ),
    "missing": (model(node("Add", "image", "nowhere")), "'nowhere' is not"),
    "unknown operator": (model(node("Frobnicate", "image", name="odd")), '"odd", Frobnicate'),
    "huge image": (model(node("Relu", "image"), shape=(1, 3, 1 << 20, 1 << 20)), "more than any picture"),
    "no image": (model(node("Relu", "image"), shape=()), "0 axes"),
    "two images": (model(node("Relu", "image"), more_inputs=[SECOND]), "2 inputs"),
    "bytes that are not there": (model(node("Add", "image", "w"), constants=[declared()]), "refuses the file"),
    "terabytes": (
        model(
            node("ConstantOfShape", "shape", output="c"),
            node("ReduceSum", "c", output="d", keepdims=0),
            node("Add", "image", "d"),
            constants=[shape_of(1 << 20, 1 << 20)],
        ),
        "refuses the file",
    ),
}


@pytest.mark.parametrize(("refused", "says"), REFUSED.values(), ids=REFUSED)
def test_refused_in_words(refused, says, tmp_path):
    path = tmp_path / "file.onnx"
    onnx.save(refused, path)
    with pytest.raises(QFaceError) as caught:
        inspect_onnx(path)
    assert says in caught.value.what
    assert caught.value.where == str(path)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.99])
def test_cut_files_are_refused(share, tmp_path):
    path, data = tmp_path / "file.onnx", whole().SerializeToString()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(QFaceError):
        inspect_onnx(path)


def test_missing_and_large_files(tmp_path, monkeypatch):
    with pytest.raises(ArtifactError, match="no such model"):
        inspect_onnx(tmp_path / "none.onnx")
    monkeypatch.setattr(reader, "LARGEST_BYTES", 10)
    onnx.save(whole(), tmp_path / "file.onnx")
    with pytest.raises(ArtifactError, match="larger than"):
        inspect_onnx(tmp_path / "file.onnx")


def external(location, folder, length="32"):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.dims.extend([8])
    for key, value in (("location", location), ("offset", "0"), ("length", length)):
        tensor.external_data.add(key=key, value=value)
    path = folder / "file.onnx"
    path.write_bytes(model(node("Add", "image", "w"), constants=[tensor]).SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "model"
    inside.mkdir()
    for place in (tmp_path / "secret.bin", inside / "weights.bin"):
        place.write_bytes(bytes(32))
    (inside / "link.bin").symlink_to(tmp_path / "secret.bin")
    return inside


@pytest.mark.parametrize("length", ["32", "16"], ids=["whole", "short"])
def test_external_data_beside_the_file_is_read(folder, length):
    path = external("weights.bin", folder, length)
    if length == "32":
        assert [one.kind for one in inspect_onnx(path).operators] == ["Add"]
    else:
        with pytest.raises(QFaceError):
            inspect_onnx(path)


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/hostname", "link.bin", "gone.bin", "", ".", "*/_ORT_MEM_ADDR_/*", "a\0b"]
)
def test_external_data_from_elsewhere_is_not(folder, location):
    with pytest.raises(CheckpointError, match="no plain file name|no such file is, or a link"):
        inspect_onnx(external(location, folder))


def test_a_run_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    steps = [node("Expand", "image", "shape", output="v0")]
    steps += [node("Exp", f"v{number}", output=f"v{number + 1}") for number in range(40)]
    path = tmp_path / "file.onnx"
    onnx.save(
        model(
            *steps,
            node("ReduceMax", "v40", keepdims=1, axes=[2, 3]),
            constants=[shape_of(64, 3, 8, 8)],
            shape=(1, 3, 8, 8),
        ),
        path,
    )
    assert len(inspect_onnx(path).operators) == 42
    monkeypatch.setattr(limits, "LONGEST_RUN_S", 0.0)
    with pytest.raises(ArtifactError, match="terminate"):
        inspect_onnx(path)


def test_the_limit_of_memory_is_put_back(tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    onnx.save(whole(), tmp_path / "file.onnx")
    inspect_onnx(tmp_path / "file.onnx")
    assert resource.getrlimit(resource.RLIMIT_AS) == before
