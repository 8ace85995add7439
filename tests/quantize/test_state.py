"""A quantized model saved and read back lowers to the same bytes; damage is told, never lowered."""

import functools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_networks import ODD_NETWORKS
from quantized import calibrated, opened, small_model, small_network, smooth_images, trained
from tiers import in_tiers
from token_networks import TOKEN_NETWORKS

from qface_toolkit.backends import BACKENDS
from qface_toolkit.errors import ArtifactError
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.quantize.model import description, load_quantized, weights_bytes
from qface_toolkit.quantize.plan import everywhere
from qface_toolkit.quantize.target import ONNX


@pytest.fixture(scope="module")
def model():
    return calibrated(trained(ODD_NETWORKS["concat of relu6 and conv"]), (16, 16))


@pytest.fixture
def saved(model, tmp_path):
    """Return the two files of a saved model."""
    files = tmp_path / "quantization.json", tmp_path / "model.safetensors"
    files[0].write_text(json.dumps(description(model)))
    files[1].write_bytes(weights_bytes(model))
    return files


@pytest.mark.parametrize(
    "name", in_tiers(("mobilefacenet-relu6", "iresnet", "pocketnet"), fast=["mobilefacenet-relu6"])
)
def test_a_saved_model_computes_the_same(name, tmp_path):
    network, size = small_network(name)
    model = calibrated(network, size, smooth_images(size, count=2))
    (tmp_path / "q.json").write_text(json.dumps(description(model)))
    (tmp_path / "m.safetensors").write_bytes(weights_bytes(model))
    loaded = load_quantized(tmp_path / "q.json", tmp_path / "m.safetensors")
    assert loaded.spec == model.spec
    assert loaded.ranges == model.ranges
    assert description(loaded) == description(model)
    assert weights_bytes(loaded) == weights_bytes(model)
    images = smooth_images(size, count=2, seed=7)
    assert (embed_as_integers(loaded, ONNX, images) == embed_as_integers(model, ONNX, images)).all()


@functools.cache
def read_often():
    """Return the model of an odd network, calibrated once for all backends."""
    return calibrated(trained(ODD_NETWORKS["a conv read often"]), (16, 16))


@pytest.mark.parametrize("backend", in_tiers(BACKENDS.names(), fast=("onnx-x86", "onnx-packed-arm", "torch-x86")))
def test_a_saved_model_lowers_to_the_same(backend, tmp_path):
    """To the same bytes, except that TorchScript numbers the classes of a process, so there to the same embeddings."""
    images, model = smooth_images((16, 16)), read_often()
    (tmp_path / "q.json").write_text(json.dumps(description(model)))
    (tmp_path / "m.safetensors").write_bytes(weights_bytes(model))
    loaded = load_quantized(tmp_path / "q.json", tmp_path / "m.safetensors")
    if BACKENDS.get(backend).target.keeps_layers:
        assert BACKENDS.get(backend).lower(loaded, {}) == BACKENDS.get(backend).lower(model, {})
    before = opened(backend, model, tmp_path)(images)
    assert (opened(backend, loaded, tmp_path)(images) == before).all()


def test_the_description_is_strict_json(model):
    json.dumps(description(model), allow_nan=False)


def test_another_version_is_refused(saved):
    plain = json.loads(saved[0].read_text())
    saved[0].write_text(json.dumps(plain | {"version": 99}))
    with pytest.raises(ArtifactError, match="version 99") as caught:
        load_quantized(*saved)
    assert caught.value.fix


def test_a_plan_that_was_saved_whole_is_read_for_what_was_chosen(saved, model):
    plain = json.loads(saved[0].read_text())
    whole = {"tensors": {"a": {"owner": "a", "families": ["onnx"], "observed": True}}, "clamps": {}, "grids": {}}
    saved[0].write_text(json.dumps(plain | {"version": 2, "plan": {"forms": plain["plan"]["forms"]["x86"]} | whole}))
    assert load_quantized(*saved).plan == model.with_forms(everywhere(model.plan.forms["x86"])).plan


def test_forms_that_were_saved_once_are_those_of_every_processor(tmp_path):
    model = small_model("mobilefacenet")
    chosen = {name: "scaled" if at % 2 else form for at, (name, form) in enumerate(model.plan.forms["x86"].items())}
    plain = json.loads(json.dumps(description(model)))
    files = tmp_path / "quantization.json", tmp_path / "model.safetensors"
    files[0].write_text(json.dumps(plain | {"version": 3, "plan": {"forms": chosen}}))
    files[1].write_bytes(weights_bytes(model))
    assert load_quantized(*files).plan.forms == {"x86": chosen, "arm": chosen}


def test_each_processor_keeps_its_own_forms(tmp_path):
    model = small_model("mobilefacenet")
    model = model.with_forms({"x86": {}, "arm": dict.fromkeys(model.plan.forms["arm"], "scaled")})
    files = tmp_path / "quantization.json", tmp_path / "model.safetensors"
    files[0].write_text(json.dumps(description(model)))
    files[1].write_bytes(weights_bytes(model))
    assert load_quantized(*files).plan == model.plan


@pytest.mark.parametrize(
    ("forms", "said"),
    [
        ({"x86": {}, "arm": {}}, "do not fit the saved network: "),
        ({"x86": {"stranger": "twin"}, "arm": {}}, "do not fit the saved network: .*"),
        ({"x86": {"prelu": "neither"}, "arm": {}}, "no form of PReLU called"),
        ({"x86": {}}, "no object of x86, arm"),
        ({"x86": {}, "arm": []}, "no object"),
        ([], "no object"),
    ],
)
def test_forms_of_other_layers_are_refused(forms, said, tmp_path):
    model = small_model("mobilefacenet")
    plain = json.loads(json.dumps(description(model)))
    files = tmp_path / "quantization.json", tmp_path / "model.safetensors"
    files[0].write_text(json.dumps(plain | {"plan": {"forms": forms}}))
    files[1].write_bytes(weights_bytes(model))
    with pytest.raises(ArtifactError, match=said):
        load_quantized(*files)


def test_two_operations_do_not_call_one_module(saved):
    plain = json.loads(saved[0].read_text())
    first, second = [one for one in plain["network"] if one["operation"] == "conv"][:2]
    second["module"] = first["module"]
    saved[0].write_text(json.dumps(plain))
    with pytest.raises(ArtifactError, match="two operations call"):
        load_quantized(*saved)


def test_missing_files_are_told(saved, tmp_path):
    for files in ((tmp_path / "none", saved[1]), (saved[0], tmp_path / "none")):
        with pytest.raises(ArtifactError):
            load_quantized(*files)


def test_a_description_nested_without_end_is_refused(saved):
    saved[0].write_text("[" * 100_000)
    with pytest.raises(ArtifactError, match="not JSON"):
        load_quantized(*saved)


def test_weights_of_another_network_are_refused(saved, tmp_path):
    other = small_model("iresnet")
    saved[1].write_bytes(weights_bytes(other))
    with pytest.raises(ArtifactError, match="damaged"):
        load_quantized(*saved)


def test_a_missing_range_is_told(saved):
    plain = json.loads(saved[0].read_text())
    owner, _ = plain["ranges"].popitem()
    saved[0].write_text(json.dumps(plain))
    with pytest.raises(ArtifactError, match=owner):
        load_quantized(*saved)


def _paths(value, path=()):
    """Yield the path of every value inside a plain description."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from _paths(inner, (*path, key))


def _loads_or_is_refused(saved):
    """Return whether a damaged model loads; anything but ArtifactError is a failure."""
    try:
        load_quantized(*saved)
    except ArtifactError as error:
        assert str(error)
        return False
    return True


STRANGE = st.sampled_from([None, "x", -1, 0, 10**9, 1e30, float("nan"), [], {}, [1], ["x", "x"], True, {"a": 1}])


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_strange_value_anywhere_is_refused_or_harmless(data, saved, model):
    plain = json.loads(json.dumps(description(model)))
    *parents, last = data.draw(st.sampled_from([path for path in _paths(plain) if path[0] != "version"]))
    place = plain
    for key in parents:
        place = place[key]
    place[last] = data.draw(STRANGE)
    saved[0].write_text(json.dumps(plain))
    _loads_or_is_refused(saved)


@pytest.fixture(scope="module")
def islands():
    return calibrated(trained(TOKEN_NETWORKS["attention between channels"]), (16, 16))


@given(data=st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_strange_value_in_an_island_is_refused_or_harmless(data, tmp_path, islands):
    plain = json.loads(json.dumps(description(islands)))
    nodes = [place for place, node in enumerate(plain["network"]) if node["operation"] in ("island", "move")]
    node = plain["network"][data.draw(st.sampled_from(nodes))]
    *parents, last = data.draw(st.sampled_from(list(_paths(node))))
    for key in parents:
        node = node[key]
    node[last] = data.draw(STRANGE)
    files = tmp_path / "quantization.json", tmp_path / "model.safetensors"
    files[0].write_text(json.dumps(plain))
    files[1].write_bytes(weights_bytes(islands))
    _loads_or_is_refused(files)


def test_a_tensor_that_fills_the_memory_is_refused(saved):
    """A border may be of any size, and the mean over what it makes has the size that it always had."""
    plain = json.loads(saved[0].read_text())
    pool = next(node for node in plain["network"] if node["operation"] == "global_average_pool")
    options = {"kind": "border", "options": {"sides": [30000, 0, 30000, 0, 0, 0]}, "shapes": []}
    border = {"name": "border", "operation": "move", "inputs": pool["inputs"], "module": "border", "options": options}
    pool["inputs"] = ["border"]
    plain["network"].insert(plain["network"].index(pool), border)
    saved[0].write_text(json.dumps(plain))
    with pytest.raises(ArtifactError, match="more than any face network"):
        load_quantized(*saved)


@given(cut=st.floats(0, 1), which=st.integers(0, 1))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_cut_short_are_refused(cut, which, saved, model):
    whole = [json.dumps(description(model)).encode(), weights_bytes(model)]
    for file, content in zip(saved, whole, strict=True):
        file.write_bytes(content)
    saved[which].write_bytes(whole[which][: int(cut * (len(whole[which]) - 1))])
    assert not _loads_or_is_refused(saved)
