"""A scheme that a file cannot express is refused by name, before any work; names may stand for several backends."""

import pytest
from helpers import write_tiny
from quantized import small_model

from qface_toolkit import pipeline
from qface_toolkit.backends import BACKENDS, TOGETHER, backend_names, expand_backends
from qface_toolkit.backends._base import refusals
from qface_toolkit.errors import RecipeError, UnknownName
from qface_toolkit.quantize.scheme import LayerScheme, Scheme, TensorScheme

SIX = TensorScheme(6, symmetric=False, per="tensor")
INTEGERS = [name for name in BACKENDS.names() if not BACKENDS.get(name).narrow]


@pytest.fixture(scope="module")
def model():
    return small_model("mobilefacenet-relu6")


@pytest.mark.parametrize("backend", INTEGERS)
def test_narrow_activations_are_refused_tensor_by_tensor(backend, model):
    image, *others = model.plan.owners()
    entry = BACKENDS.get(backend)
    assert refusals(Scheme(), model.network) == []
    found = refusals(Scheme(activations=SIX), model.network)
    assert [line.partition(":")[0] for line in found] == others, "an image comes in eight bits"
    found = refusals(Scheme(layers=(LayerScheme(others[0], activations=4),)), model.network)
    assert found == [f"{others[0]}: its activations have 4 bits"]
    assert refusals(Scheme(layers=(LayerScheme(image, activations=5),)), model.network) == []
    with pytest.raises(RecipeError, match=f"{others[0]}: its activations have 6 bits"):
        entry.lower(model.with_scheme(Scheme(activations=SIX)), {})


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_weights_of_any_width_can_be_held(model, bits):
    scheme = Scheme(weights=TensorScheme(bits, symmetric=True, per="channel"))
    assert not refusals(scheme, model.network)


def test_a_job_is_refused_before_any_work(tmp_path):
    checkpoint = write_tiny(tmp_path / "tiny.pth")
    with pytest.raises(RecipeError) as caught:
        pipeline.plan_job(checkpoint, recipe="int8-fast", sets=["scheme.activations.bits=6"], backends=["onnx-packed"])
    assert caught.value.what.startswith("onnx-packed-x86 runs activations of 8 bits and no fewer:\n  ")
    assert "--backend simulation" in str(caught.value.fix)
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.pth"}


def test_a_name_may_stand_for_several(tmp_path):
    assert set(backend_names()) == {*BACKENDS.names(), *TOGETHER}
    assert not set(BACKENDS.names()) & set(TOGETHER)
    packed = ("onnx-packed-x86", "onnx-packed-arm")
    assert expand_backends(["onnx-packed-arm", "onnx-packed", "onnx-x86", "onnx-x86"]) == (*packed[::-1], "onnx-x86")
    with pytest.raises(UnknownName, match="onnx-paked") as caught:
        expand_backends(["onnx-paked"])
    assert caught.value.fix == "did you mean onnx-packed?"
    checkpoint = write_tiny(tmp_path / "tiny.pth")
    for named in ({"sets": ["backends=[onnx-packed]"]}, {"backends": ["onnx-packed"]}):
        assert pipeline.plan_job(checkpoint, recipe="int8-fast", **named).recipe.backends == packed
