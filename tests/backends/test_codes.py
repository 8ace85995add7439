"""The codes inside artifacts: they can be read without changing what runs, and they are those of the simulation."""

import numpy as np
import onnx
import pytest
from odd_networks import ISLAND_NETWORKS
from quantized import SMALL_NETWORKS, calibrated, codes_of, opened, printed, small_model, smooth_images, trained
from tiers import in_tiers
from tiny_model import golden_images, golden_model
from token_networks import TOKEN_NETWORKS

from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.backends._profile import inspect_onnx
from qface_toolkit.backends.onnx_qdq._codes import with_outputs
from qface_toolkit.errors import MeasurementError
from qface_toolkit.quantize.target import ONNX, ONNX_SIGNED, TORCH_QNNPACK, TORCH_X86
from qface_toolkit.result.lowered import Lowered

NETWORKS = in_tiers(SMALL_NETWORKS, fast=("mobilefacenet", "mobilefacenet-relu6"))
QUICK_BACKENDS = ("onnx-x86", "onnx-arm")
COMPARED = [name for name in BACKENDS.names() if name not in ("simulation", "openvino")]
EVERY_BACKEND = pytest.mark.parametrize("backend", in_tiers(COMPARED, fast=QUICK_BACKENDS))
"""All but a simulation and OpenVINO, whose codes nobody can tell; the others take seconds to convert."""
KERNELS = ("QLinearConv", "QLinearAdd", "QLinearConcat", "QGemm", "Max", "Conv", "Gemm", "QuantizeLinear")
"""What must stay the same when codes leave the graph; changes of layout in between may be more."""


@pytest.fixture(scope="module")
def small():
    model = small_model("mobilefacenet")
    return model, smooth_images(model.spec.input_size)


def written(backend, model, folder):
    opened(backend, model, folder)
    return BACKENDS.get(backend), folder / BACKENDS.get(backend).artifact


@pytest.mark.parametrize("name", NETWORKS)
@EVERY_BACKEND
def test_every_code_is_as_simulated(name, backend, tmp_path):
    model = small_model(name)
    entry, artifact = written(backend, model, tmp_path)
    found = Lowered(model, {}).differing_codes(entry, artifact, smooth_images(model.spec.input_size))
    planned = [tensor for tensor in model.plan.tensors if model.plan.quantized(tensor, entry.target)]
    assert [one.tensor for one in found] == planned
    assert not [one for one in found if one.differing]


@pytest.mark.slow
@pytest.mark.parametrize("backend", [*QUICK_BACKENDS, "torch-x86", "torch-qnnpack", "torch-fbgemm"])
@pytest.mark.parametrize("name", TOKEN_NETWORKS | ISLAND_NETWORKS)
def test_codes_around_islands_are_found(name, backend, tmp_path):
    """Sums of an island end in other bits in every engine, so a rounding may flip; what follows differs too."""
    images = smooth_images((16, 16))
    model = calibrated(trained((TOKEN_NETWORKS | ISLAND_NETWORKS)[name]), (16, 16), images)
    entry, artifact = written(backend, model, tmp_path)
    found = Lowered(model, {}).differing_codes(entry, artifact, images)
    assert [one.tensor for one in found] == [name for name in model.plan.tensors if _held(model, name, entry)]
    first = next((one for one in found if one.differing), None)
    assert first is None or (first.differing <= first.codes / 100 and first.largest <= 1), first


def _held(model, tensor, entry):
    return model.plan.quantized(tensor, entry.target)


@EVERY_BACKEND
def test_a_wrong_range_is_found_where_it_begins(backend, small, tmp_path):
    model, images = small
    entry, artifact = written(backend, model, tmp_path)
    planned = [tensor for tensor in model.plan.owners() if model.plan.quantized(tensor, entry.target)]
    middle = planned[len(planned) // 2]
    wider = {owner: model.ranges[owner] for owner in model.ranges}
    wider[middle] = type(wider[middle])(wider[middle].low * 1.1, wider[middle].high * 1.1)
    found = Lowered(model.with_ranges(wider), {}).differing_codes(entry, artifact, images)
    first = next(one.tensor for one in found if one.differing)
    assert model.plan.tensors[first].owner in model.plan.spanned(middle, entry.target)


@pytest.mark.parametrize("name", NETWORKS)
def test_reading_codes_leaves_the_kernels_alone(name, tmp_path):
    model = small_model(name)
    entry, artifact = written("onnx-x86", model, tmp_path)
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(
        with_outputs(onnx.load(artifact), printed("onnx-x86", model).codes, entry.code_type).SerializeToString()
    )
    before, after = inspect_onnx(artifact).counts, inspect_onnx(copy).counts
    assert before["QLinearConv"] > 0
    assert {kind: before.get(kind, 0) for kind in KERNELS} == {kind: after.get(kind, 0) for kind in KERNELS}
    images = smooth_images(model.spec.input_size)
    assert np.array_equal(open_onnx(artifact, threads=1)(images), open_onnx(copy, threads=1)(images))


@pytest.mark.parametrize("backend", ["onnx-x86", "torch-x86"])
def test_the_file_of_another_network_is_refused(backend, small, tmp_path):
    entry, artifact = written(backend, small_model("iresnet"), tmp_path)
    with pytest.raises(MeasurementError, match="no codes for|no operator for"):
        entry.codes(artifact, *small)


GOLDEN_TARGETS = (ONNX, ONNX_SIGNED, TORCH_X86, TORCH_QNNPACK)


def shown(codes):
    """Return the shape, the sum and the last codes of a tensor."""
    return f"{list(codes.shape)} sum {codes.sum(dtype=int)} ... {' '.join(map(str, codes.ravel()[-12:]))}"


def test_golden_codes(golden):
    """Every tensor of a tiny network in the arithmetic of four runtimes, and its cosine to float."""
    model, lines = golden_model(), []
    for target in GOLDEN_TARGETS:
        codes = codes_of(model, target, golden_images())
        cosines = {one.tensor: one.cosine for one in Lowered(model, {}).tensors(target, golden_images())}
        lines += ["", target.name]
        for name, held in codes.items():
            cosine = f"{cosines[name]:.4f}" if name in cosines else "clamped"
            lines.append(f"{name:10} {cosine:7} {shown(held)}")
    embedding = cosines.popitem()
    assert embedding[1] > 0.99, embedding
    golden("tiny_codes.txt", "\n".join(lines[1:]) + "\n")


@pytest.mark.parametrize("backend", ["onnx-x86", "onnx-arm", "torch-x86", "torch-qnnpack"])
def test_golden_codes_are_those_of_the_runtimes(backend, tmp_path):
    model = golden_model()
    entry, artifact = written(backend, model, tmp_path)
    found = Lowered(model, {}).differing_codes(entry, artifact, golden_images())
    assert len(found) > 5
    assert not [one for one in found if one.differing]
