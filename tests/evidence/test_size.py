"""Sizes are those of real files, and what papers count is told apart from them."""

import tracemalloc
import zipfile

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from safetensors.numpy import save_file

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evidence.counted_sizes import nominal_bytes
from qface_toolkit.evidence.sizes import FileSize, compressed_bytes, measure_size, payload_bytes, size_ratio


def test_file_and_folder_are_weighed(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"x" * 10)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "b.bin").write_bytes(b"x" * 5)
    assert measure_size(tmp_path / "a.bin") == FileSize(10)
    assert measure_size(tmp_path) == FileSize(15)


def test_ratio_is_other_over_reference():
    assert size_ratio(FileSize(4000), FileSize(1000)) == 0.25


@pytest.mark.parametrize("made", ["absent", "empty file", "empty folder"])
def test_nothing_cannot_be_weighed(tmp_path, made):
    path = tmp_path / "thing"
    if made == "empty file":
        path.write_bytes(b"")
    elif made == "empty folder":
        path.mkdir()
    with pytest.raises(MeasurementError, match="nothing to weigh"):
        measure_size(path)


@pytest.mark.parametrize("content", [b"", b"a", b"ab" * 2_000_000, bytes(range(256)) * 9000], ids=len)
def test_compressed_is_what_a_zip_file_holds(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "package.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as package:
        package.write(tmp_path / "file", "file")
        deflated = package.getinfo("file").compress_size
    assert compressed_bytes(tmp_path / "file") == min(deflated, len(content))


def test_what_does_not_compress_goes_as_it_is(tmp_path):
    (tmp_path / "noise").write_bytes(np.random.default_rng(0).bytes(100_000))
    assert compressed_bytes(tmp_path / "noise") == 100_000


def test_compressing_holds_little_of_a_file(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64_000_000)
    tracemalloc.start()
    try:
        compressed_bytes(tmp_path / "large")
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("layers", "expected"),
    [([(1000, 6)], 750), ([(1000, 32)], 4000), ([(10, 4), (3, 8)], 8), ([(3, 3)], 2), ([], 0)],
)
def test_nominal_bytes_are_parameters_times_bits(layers, expected):
    assert nominal_bytes(layers) == expected


def test_payload_of_an_onnx_file_is_its_numbers(tmp_path):
    """However they are written: as raw bytes, in fields of int32, two in a byte, or in a node of their own."""
    raw = numpy_helper.from_array(np.zeros((3, 5), np.int8), "raw")
    wide = helper.make_tensor("wide", onnx.TensorProto.UINT8, [7], [255] * 7)
    packed = helper.make_tensor("packed", onnx.TensorProto.INT4, [5], [1, 2, 3, -4, 5])
    float_ = numpy_helper.from_array(np.zeros(2, np.float32), "a_very_long_name" * 50)
    node = helper.make_node("Constant", [], ["held"], value=numpy_helper.from_array(np.arange(4, dtype=np.int64)))
    output = helper.make_tensor_value_info("held", onnx.TensorProto.INT64, [4])
    graph = helper.make_graph([node], "graph", [], [output], [raw, wide, packed, float_])
    onnx.save(helper.make_model(graph), tmp_path / "file.onnx")
    assert payload_bytes(tmp_path / "file.onnx") == 15 + 7 + 3 + 8 + 32


def test_payload_of_a_state_dict_leaves_its_names_out(tmp_path):
    save_file({"a" * 500: np.zeros((4, 4), np.int8), "b": np.zeros(3, np.float32)}, tmp_path / "file.safetensors")
    assert payload_bytes(tmp_path / "file.safetensors") == 16 + 12


def test_payload_of_an_archive_leaves_its_program_out(tmp_path):
    layer = torch.nn.Linear(16, 4)
    torch.jit.save(torch.jit.freeze(torch.jit.script(layer.eval())), tmp_path / "file.ts")
    assert payload_bytes(tmp_path / "file.ts") == 4 * (16 * 4 + 4)


def test_payload_of_something_else_is_unknown(tmp_path):
    (tmp_path / "file.bin").write_bytes(b"x")
    assert payload_bytes(tmp_path / "file.bin") is None
