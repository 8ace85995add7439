"""Convolutions of groups in every form that a file may write them in: the same codes, whatever lies around them."""

import json

import numpy as np
import pytest
from grouped_networks import SIZE, forms_of, model_of
from quantized import opened, smooth_images
from torch import nn

from qface_toolkit.backends import BACKENDS
from qface_toolkit.errors import ArtifactError
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.quantize.groups import GroupForm
from qface_toolkit.quantize.model import description, load_quantized, weights_bytes
from qface_toolkit.quantize.plan import everywhere
from qface_toolkit.quantize.target import ONNX, ONNX_SIGNED, Deployment


def check(model, folder, backend="onnx-x86", target=ONNX):
    images, seen = smooth_images(SIZE, count=3, seed=5), []
    for number, forms in enumerate(forms_of(model)):
        written = model.with_groups(forms)
        place = folder / str(number)
        place.mkdir()
        given = opened(backend, written, place)(images)
        assert np.array_equal(given, embed_as_integers(model, target, images)), forms
        seen.append(BACKENDS.get(backend).inspect(place / f"int8.{'arm' if 'arm' in backend else 'x86'}.onnx"))
    return seen


@pytest.mark.parametrize("around", ["dense", "sum", "chain", "depthwise"])
@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(16, 16, 8), (8, 16, 4), (16, 8, 2), (8, 16, 8)])
def test_every_form_computes_what_is_simulated(inputs, outputs, groups, around, tmp_path):
    model = model_of(inputs=inputs, outputs=outputs, groups=groups, around=around)
    for seen in check(model, tmp_path):
        assert not [one.name for one in seen.operators if one.arithmetic == "float"], "all of it runs on integers"


@pytest.mark.parametrize(
    ("kernel", "stride", "activation"), [(1, 1, nn.PReLU), (5, 1, nn.ReLU6), (3, 2, nn.Sigmoid), (3, 2, nn.PReLU)]
)
def test_every_geometry_and_activation(kernel, stride, activation, tmp_path):
    check(model_of(inputs=16, outputs=16, groups=4, kernel=kernel, stride=stride, activation=activation), tmp_path)


def test_scaled_prelus_and_signed_codes(tmp_path):
    model = model_of(inputs=48, outputs=48, groups=12)
    scaled = model.with_forms(everywhere(dict.fromkeys(model.plan.forms["x86"], "scaled")))
    check(scaled, tmp_path)
    (tmp_path / "arm").mkdir()
    check(scaled, tmp_path / "arm", "onnx-arm", ONNX_SIGNED.on("x86"))


def test_packed_files_unpack_to_the_same(tmp_path):
    model = model_of(inputs=16, outputs=16, groups=4)
    images = smooth_images(SIZE, count=3)
    for number, forms in enumerate(forms_of(model)):
        (tmp_path / str(number)).mkdir()
        given = opened("onnx-packed-x86", model.with_groups(forms), tmp_path / str(number))(images)
        assert np.array_equal(given, embed_as_integers(model, ONNX, images)), forms


def test_channels_in_turn_are_moved_only_where_somebody_else_reads_them(tmp_path):
    def moves(around):
        model = model_of(inputs=16, outputs=16, groups=8, around=around)
        forms = {name: GroupForm(interleaved=True) for name in forms_of(model)[0]}
        opened("onnx-x86", model.with_groups(forms), tmp_path)
        found = BACKENDS.get("onnx-x86").inspect(tmp_path / "int8.x86.onnx").counts
        return found["Transpose"]

    assert moves("depthwise") == moves("dense") < moves("sum")


def test_a_layer_that_makes_floats_stays_as_it_is(tmp_path):
    model = model_of(inputs=16, outputs=16, groups=8)
    last = next(node.name for node in model.network.graph.nodes if str(node.target).endswith("last"))
    model, images = model.with_kept([last]), smooth_images(SIZE, count=2)
    for number, forms in enumerate(forms_of(model)):
        (tmp_path / str(number)).mkdir()
        given = opened("onnx-x86", model.with_groups(forms), tmp_path / str(number))(images)
        expected = embed_as_integers(model, ONNX, images)
        assert np.allclose(given, expected, atol=1e-4 * abs(expected).max()), forms


def test_files_grow_by_few_bytes(tmp_path):
    model = model_of(inputs=64, outputs=64, groups=16)
    entry, plain = BACKENDS.get("onnx-x86"), None
    plain = len(entry.lower(model, {}))
    assert max(len(entry.lower(model.with_groups(forms), {})) for forms in forms_of(model)) < plain + 4000


def test_forms_survive_saving():
    form = GroupForm(interleaved=True)
    assert [GroupForm.of_plain(one.as_plain()) for one in (form, GroupForm(4))] == [form, GroupForm(4)]
    for strange in ("dense", 0, -1, 1 << 20, True, None, [2]):
        with pytest.raises(ValueError, match="no form"):
            GroupForm.of_plain(strange)


def test_without_vnni_no_pair_of_products_changes():
    from qface_toolkit.quantize.groups import _exact

    even, odd = nn.Conv2d(16, 16, 3, groups=4), nn.Conv2d(12, 12, 3, groups=4)
    assert any(form.together > 1 for form in _exact(even, Deployment(vnni=False)))
    assert not any(form.together > 1 for form in _exact(odd, Deployment(vnni=False)))
    assert any(form.together > 1 for form in _exact(odd, Deployment()))


@pytest.mark.parametrize(
    "damaged", [{"grouped": 7}, {"nobody": "interleaved"}, [1], {"grouped": {"a": 1}}, 7, {"grouped": 0}, {"first": 2}]
)
def test_damaged_forms_are_refused(damaged, tmp_path):
    model = model_of(inputs=16, outputs=16, groups=8)
    model = model.with_groups({"grouped": GroupForm(interleaved=True)})
    weights, plain = tmp_path / "model.safetensors", tmp_path / "quantization.json"
    weights.write_bytes(weights_bytes(model))
    plain.write_text(json.dumps(description(model)))
    assert load_quantized(plain, weights).groups == model.groups
    plain.write_text(json.dumps(description(model) | {"groups": damaged}))
    with pytest.raises(ArtifactError, match="damaged"):
        load_quantized(plain, weights)
