"""ONNX files that take pixels: integers from the first byte, what their simulation says, and preprocessing undone."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from quantized import calibrate, cosines, opened, small_network, smooth_images
from tiers import in_tiers

from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends._onnxruntime import open_onnx, repeat_onnx
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.errors import ArtifactError
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.model import new_model
from qface_toolkit.quantize.target import Deployment

SPECS = {
    "usual": {},
    "128": {"std": (128.0, 128.0, 128.0)},
    "imagenet": {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)},
    "bgr": {"mean": (103.53, 116.28, 123.675), "std": (57.375, 57.12, 58.395), "color": "bgr"},
}
INTEGERS = {"Reshape", "Transpose", "Pad", "QLinearConv", "QLinearAdd", "Max", "Flatten", "QGemm"}


def pixel_model(name, **facts):
    """Return a calibrated small model that takes pixels, and preprocessed images for it."""
    network, size = small_network(name)
    spec = ModelSpec("test", size, 16, **facts)
    drawn = np.rint(smooth_images(size, count=5) * 127.5 + 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
    ordered = drawn[..., ::-1] if spec.color == "bgr" else drawn
    images = ((ordered.astype(np.float32) - spec.mean) / spec.std).astype(np.float32).transpose(0, 3, 1, 2)
    images = np.ascontiguousarray(images)
    return calibrate(new_model(canonicalise(network, size), spec, Deployment(image="uint8")), images), images, drawn


@pytest.fixture(scope="module", params=in_tiers(SPECS, fast=("128", "bgr")))
def case(request):
    return pixel_model("mobilefacenet", **SPECS[request.param])


@pytest.fixture(scope="module")
def usual():
    return pixel_model("mobilefacenet")


@pytest.mark.parametrize("backend", ["onnx-x86", "onnx-arm"])
@pytest.mark.parametrize("release", ["1.24", "1.18"])
def test_the_file_gives_what_is_simulated(backend, release, case, tmp_path):
    model, images, _ = case
    model = replace(model, deployment=replace(model.deployment, onnxruntime=release))
    given = opened(backend, model, tmp_path)(images)
    agreement = cosines(given, embed_as_integers(model, BACKENDS.get(backend).target, images))
    assert agreement.min() > 0.9999, f"lowest cosine to its simulation {agreement.min():.6f}"
    agreement = cosines(given, model.embed(images))
    assert agreement.min() > 0.99, f"lowest cosine to the float network {agreement.min():.5f}"


@pytest.mark.parametrize("name", in_tiers(("iresnet", "pocketnet"), fast=["iresnet"]))
def test_other_layouts_take_pixels_too(name, tmp_path):
    model, images, _ = pixel_model(name)
    agreement = cosines(opened("onnx-x86", model, tmp_path)(images), embed_as_integers(model, _onnx(), images))
    assert agreement.min() > 0.9999, f"lowest cosine to its simulation {agreement.min():.6f}"


def _onnx():
    return BACKENDS.get("onnx-x86").target


@pytest.mark.parametrize("backend", ["onnx-x86", "onnx-arm"])
def test_everything_runs_as_integers(backend, usual, tmp_path):
    opened(backend, usual[0], tmp_path)
    fusion = BACKENDS.get(backend).inspect(tmp_path / BACKENDS.get(backend).artifact)
    assert len(fusion.convolutions) > 20 and all(layer.reason is None for layer in fusion.convolutions)
    assert not fusion.islands


def test_nothing_is_quantized_at_run_time(usual, tmp_path):
    opened("onnx-x86", usual[0], tmp_path)
    operators = BACKENDS.get("onnx-x86").inspect(tmp_path / "int8.x86.onnx").counts
    assert set(operators) <= INTEGERS, dict(operators)
    # Two turn the image, one turns the last pixel back before it is flattened.
    assert operators["Transpose"] <= 3, dict(operators)


def test_any_batch_of_bare_pixels(usual, tmp_path):
    model, images, drawn = usual
    embed = opened("onnx-x86", model, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "int8.x86.onnx")
    [entering] = session.get_inputs()
    assert (entering.name, entering.type, entering.shape) == ("image", "tensor(uint8)", ["batch", 32, 32, 3])
    for count in (1, 2, 5):
        assert np.array_equal(session.run(None, {"image": drawn[:count]})[0], embed(images[:count]))
    assert np.array_equal(embed(images)[:1], embed(images[:1]))


def test_timing_makes_the_pixels_once(usual, tmp_path, monkeypatch):
    model, images, _ = usual
    expected, made = opened("onnx-x86", model, tmp_path)(images), []
    pixels_of = ModelSpec.pixels_of
    monkeypatch.setattr(ModelSpec, "pixels_of", lambda spec, given: made.append(1) or pixels_of(spec, given))
    again = repeat_onnx(tmp_path / "int8.x86.onnx", images, threads=1)
    assert all(np.array_equal(again()[0], expected) for _ in range(3))
    assert len(made) == 1


@pytest.mark.parametrize("backend", ["onnx-x86", "onnx-arm"])
def test_the_file_says_what_it_takes(backend, case):
    model = case[0]
    written = onnx.load_from_string(BACKENDS.get(backend).lower(model, {"qface.input": "float32", "other": "kept"}))
    onnx.checker.check_model(written, full_check=True)
    told = {entry.key: entry.value for entry in written.metadata_props}
    assert (told["qface.input"], told["qface.color"]) == ("uint8 NHWC RGB 0..255", model.spec.color)
    assert told["other"] == "kept"


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"qface.mean": "[127.5, 127.5]"},
        {"qface.std": "[1, 2, NaN]"},
        {"qface.mean": "mean"},
        {"qface.color": "grey"},
        {"qface.mean": "[" * 100_000},
    ],
)
def test_a_file_that_does_not_say_what_it_absorbed_is_refused(facts, usual, tmp_path):
    model, _, _ = usual
    written = onnx.load_from_string(BACKENDS.get("onnx-x86").lower(model, {}))
    told = {entry.key: entry.value for entry in written.metadata_props} | facts
    onnx.helper.set_model_props(written, told if facts else {})
    (tmp_path / "file.onnx").write_bytes(written.SerializeToString())
    with pytest.raises(ArtifactError, match="takes pixels and does not say"):
        open_onnx(tmp_path / "file.onnx", threads=1)


@pytest.mark.slow
def test_torch_archives_stay_float(usual, tmp_path):
    model, images, _ = usual
    alike = replace(model, deployment=Deployment())
    (tmp_path / "float").mkdir()
    given = opened("torch-onednn", model, tmp_path)(images)
    assert np.array_equal(given, opened("torch-onednn", alike, tmp_path / "float")(images))
