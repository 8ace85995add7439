"""Any model opens for embedding: ours and strangers', each fed as it wants, or refused with what to do."""

import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers import EMBEDDING, tiny_network
from onnx import TensorProto, helper

from qface_toolkit import load_model, pipeline
from qface_toolkit.backends import BACKENDS
from qface_toolkit.errors import ArtifactError, QFaceError, RecipeError
from qface_toolkit.evaluation import embed_images
from qface_toolkit.evaluation.synthetic import synthetic_people
from qface_toolkit.result.opening import Wanted, open_embedder, read_facts, result_files

PLAIN = Wanted({})
FACTS = {"mean": 127.5, "std": 128, "color": "rgb"}


@pytest.fixture(scope="module")
def result(finished):
    return finished


@pytest.fixture(scope="module")
def people():
    return synthetic_people(4, 2)


def rows_of(model, people, wanted=PLAIN):
    return embed_images(open_embedder(model, wanted), people.images, flip=False)


def cosines(first, second):
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / lengths


def test_checkpoint_and_float_onnx_say_the_same(result, people):
    checkpoint, exported = (rows_of(result / name, people) for name in ("tiny.pth", "out/float.onnx"))
    assert checkpoint.shape == (8, EMBEDDING)
    assert cosines(checkpoint, exported).min() > 0.999999


@pytest.mark.parametrize("name", ["int8.x86.onnx", "int8.arm.onnx", "int8.x86.ts"])
def test_artifacts_say_what_their_backend_says(result, people, name):
    opened = open_embedder(result / "out" / name, PLAIN)
    backend = next(entry for entry in BACKENDS.entries().values() if entry.artifact == name)
    crops = np.stack([people.images.crop(index) for index in range(8)])
    expected = backend.open(result / "out" / name, 1)(opened.spec.preprocess(crops))
    assert np.array_equal(rows_of(result / "out" / name, people), expected)
    assert opened.spec.input_size == (112, 96)
    assert len(opened.sha256) == 64
    assert opened.name == name


def test_a_file_of_pixels_is_given_pixels(result, people, tmp_path):
    folder = shutil.copytree(result / "out", tmp_path / "out")
    made = pipeline.export(folder, "onnx-x86", sets=["export.input=uint8"], name="pixels.onnx")
    crops = np.stack([people.images.crop(index) for index in range(8)])
    session = onnxruntime.InferenceSession(made)
    (expected,) = session.run(None, {"image": np.ascontiguousarray(crops[:, :, 8:104])})
    assert np.array_equal(rows_of(made, people), expected)


def test_a_result_stands_for_what_is_deployed_and_its_reference(result):
    model, reference = result_files(result / "out")
    assert (model.name, reference.name) == ("int8.x86.onnx", "float.onnx")
    assert result_files(result / "tiny.pth") is None
    with pytest.raises(ArtifactError, match="no compressed model in this folder"):
        result_files(result)


def foreign(path, result, batch=None):
    """Write the float file as somebody else would: no metadata, other names, perhaps for one batch size only."""
    file = onnx.load(result / "out" / "float.onnx")
    del file.metadata_props[:]
    if batch:
        file.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
        file.graph.output[0].type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save(file, path)
    return path


@pytest.mark.parametrize("batch", [1, 3])
def test_a_file_for_one_batch_size_is_fed_so_many_at_a_time(result, people, tmp_path, batch):
    path = foreign(tmp_path / "foreign.onnx", result, batch)
    expected = rows_of(result / "out" / "float.onnx", people)
    assert np.allclose(rows_of(path, people, Wanted(FACTS)), expected, atol=1e-4)


def test_a_file_that_mixes_types_is_refused_in_words(result, tmp_path):
    path = foreign(tmp_path / "half.onnx", result)
    file = onnx.load(path)
    file.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT32
    onnx.save(file, path)
    with pytest.raises(ArtifactError, match="not one image of fixed size.*element type 6"):
        open_embedder(path, Wanted(FACTS))


def test_weights_beside_a_file_are_part_of_what_tells_it_from_others(result, tmp_path):
    file, path = onnx.load(result / "out" / "float.onnx"), tmp_path / "model.onnx"
    onnx.save(file, path, save_as_external_data=True, location="weights", size_threshold=0)
    before, graph = open_embedder(path, PLAIN), path.read_bytes()
    data = bytearray((tmp_path / "weights").read_bytes())
    # The sign of a weight.
    data[3] ^= 0x80
    (tmp_path / "weights").write_bytes(data)
    assert path.read_bytes() == graph
    assert open_embedder(path, PLAIN).sha256 != before.sha256


def quantized(path, result):
    """Write an int8 file of nobody's that says nothing about its input."""
    file = onnx.load(result / "out" / "int8.x86.onnx")
    keys = [entry for entry in file.metadata_props if entry.key.startswith("qface.")]
    for entry in keys:
        file.metadata_props.remove(entry)
    onnx.save(file, path)
    return path


def test_a_silent_int8_file_is_prepared_for_as_its_float_model_is(result, people, tmp_path):
    path = quantized(tmp_path / "theirs.onnx", result)
    with pytest.raises(ArtifactError, match="does not say how images are prepared; missing: mean, std, color") as error:
        open_embedder(path, PLAIN)
    assert "--set model.mean" in error.value.fix
    assert "--reference" in error.value.fix
    like = load_model(result / "tiny.pth").spec
    expected = rows_of(result / "out" / "int8.x86.onnx", people)
    assert np.array_equal(rows_of(path, people, Wanted({}, like=like)), expected)


def test_given_facts_go_first(result, people):
    path = result / "out" / "float.onnx"
    changed = rows_of(path, people, Wanted({"color": "bgr"}))
    # One of the drawings is grey.
    assert cosines(changed, rows_of(path, people)).min() < 0.9


def test_a_network_in_memory(people):
    from qface_toolkit import from_module

    model = from_module(tiny_network(), input_size=(112, 96))
    assert rows_of(model, people).shape == (8, EMBEDDING)


def one_node(path, shape, out, op="Flatten"):
    graph = helper.make_graph(
        [helper.make_node(op, ["image_"], ["embedding"])],
        "g",
        [helper.make_tensor_value_info("image_", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, out)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.parametrize(
    ("shape", "out", "op", "what"),
    [
        (["N", 3, 112, 112], ["N", 3, 112, 112], "Relu", "not one embedding"),
        (["N", 3, 4000, 4000], ["N", 48_000_000], "Flatten", "not one image of fixed size"),
        (["N", 128], ["N", 128], "Relu", "not one image of fixed size"),
        (["N", 3, "h", "w"], ["N", "D"], "Flatten", "not one image of fixed size"),
    ],
)
def test_what_is_no_face_model_is_refused_in_words(tmp_path, shape, out, op, what):
    with pytest.raises(QFaceError, match=what) as error:
        open_embedder(one_node(tmp_path / "odd.onnx", shape, out, op), Wanted(FACTS))
    assert error.value.fix


@pytest.mark.parametrize("name", ["missing.onnx", "missing.ts", "missing.pth"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(QFaceError) as error:
        open_embedder(tmp_path / name, PLAIN)
    assert name in str(error.value)


def test_only_facts_can_be_set():
    assert read_facts(["model.mean=127.5", "model.color=bgr"]) == {"mean": 127.5, "color": "bgr"}
    with pytest.raises(RecipeError, match="only the model's facts"):
        read_facts(["calibration.count=3"])
    with pytest.raises(RecipeError, match="KEY=VALUE"):
        read_facts(["mean"])
