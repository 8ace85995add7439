"""Gates, unit-length embeddings and folded constants in every integer form: each computes what is planned."""

import json

import numpy as np
import pytest
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from constant_networks import CONSTANT_NETWORKS, PADDED_NETWORKS
from gated_networks import GATED_NETWORKS, NORMALISED_NETWORKS
from odd_networks import Net
from quantized import calibrated, cosines, opened, run, smooth_images, trained
from tiers import in_tiers
from torch import nn

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.graph import operation
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.quantize.model import description, load_quantized, weights_bytes
from qface_toolkit.quantize.plan import make_plan
from qface_toolkit.quantize.scheme import Range, activation_qparams
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import ONNX, TARGETS, TORCH_X86

SIZE = (16, 16)
NETWORKS = GATED_NETWORKS | NORMALISED_NETWORKS
for networks, names in (
    (CONSTANT_NETWORKS, ("scaled residual", "times of the input", "norm of averages", "difference")),
    (PADDED_NETWORKS, ("pad below and right", "uneven pad before an average", "pad before a maximum")),
):
    NETWORKS |= {name: networks[name] for name in names}


QUICK = (
    "residual of gates",
    "hard swish of vectors",
    "concat of gates",
    "excitation by views",
    "square",
    "normalize with options",
    "normalised conv",
    "scaled residual",
    "uneven pad before an average",
)
"""These show in ONNX what breaks; the others, and other backends, are for the slow tests."""


@pytest.mark.parametrize("backend", in_tiers(BACKENDS.names(), fast=["onnx-x86"]))
@pytest.mark.parametrize("name", in_tiers(NETWORKS, fast=QUICK))
def test_every_spelling_is_exact(name, backend, tmp_path):
    images = smooth_images(SIZE)
    model = calibrated(trained(NETWORKS[name]), SIZE, images)
    expected = embed_as_integers(model, BACKENDS.get(backend).target, images)
    got = opened(backend, model, tmp_path)(images)
    agreement = cosines(got - expected.mean(), expected - expected.mean()).mean()
    assert agreement > 0.9999, f"{backend}: mean cosine {agreement:.6f} to the integer arithmetic"


@pytest.fixture(scope="module")
def gated():
    return calibrated(trained(GATED_NETWORKS["residual of gates"]), SIZE)


@pytest.fixture(scope="module")
def normalised():
    return calibrated(trained(NORMALISED_NETWORKS["normalize with options"]), SIZE)


def test_a_gate_has_the_range_that_is_known(gated):
    gates = [node.name for node in gated.network.graph.nodes if operation(node) in ("sigmoid", "hard_sigmoid")]
    assert len(gates) == 4
    assert {gate: gated.range_of(gate, ONNX) for gate in gates} == dict.fromkeys(gates, Range(0.0, 1.0))


def test_an_addition_does_not_widen_the_range_of_a_gate():
    model = calibrated(trained(GATED_NETWORKS["hard sigmoid"]), SIZE)
    assert set(model.plan.fixed) <= set(model.plan.owners())
    assert all(model.ranges[owner] == Range(0.0, 1.0) for owner in model.plan.fixed)


def test_the_layer_before_a_normalisation_is_float_in_onnx_and_the_normalisation_has_no_range(normalised):
    plan = make_plan(normalised.network)
    last, normalization = list(normalised.network.graph.nodes)[-3:-1]
    assert (operation(last), operation(normalization)) == ("linear", "normalize")
    assert normalization.name not in plan.tensors
    assert not plan.quantized(last.name, ONNX)
    assert plan.quantized(last.name, TORCH_X86)


@pytest.mark.parametrize("target", TARGETS)
def test_simulated_and_computed_embeddings_have_unit_length(normalised, target):
    images = smooth_images(SIZE)
    simulated = run(prepare(normalised, TARGETS[target]), images)
    computed = embed_as_integers(normalised, TARGETS[target], images)
    for embeddings in (simulated, computed):
        assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(len(images)), abs=1e-6)
    agreement = cosines(simulated, computed).mean()
    assert agreement > 0.999, f"mean cosine {agreement:.6f} of fake-quantization to integers"


@pytest.mark.parametrize("target", TARGETS)
def test_gates_are_simulated_as_they_are_computed(gated, target):
    images = smooth_images(SIZE)
    agreement = cosines(run(prepare(gated, TARGETS[target]), images), embed_as_integers(gated, TARGETS[target], images))
    assert agreement.mean() > 0.999, f"mean cosine {agreement.mean():.6f} of fake-quantization to integers"


@pytest.mark.parametrize("backend", ["onnx-x86", "onnx-arm"])
def test_a_hard_sigmoid_by_a_convolution_rounds_once(backend, tmp_path):
    """Each number is off by half a code of its own and a sixth of half a code of what comes in, and no more."""
    network = Net(lambda s, x: F.hardsigmoid(s.c(x)).flatten(1), c=nn.Conv2d(3, 3, 1, groups=3, bias=False))
    nn.init.constant_(network.c.weight, 5.0)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, *SIZE)).astype(np.float32)
    model = calibrated(network, SIZE, images, observer="minmax")
    gate = next(node for node in model.network.graph.nodes if operation(node) == "hard_sigmoid")
    entering, leaving = (float(activation_qparams(model.range_of(str(node), ONNX))[0]) for node in (gate.args[0], gate))
    image = float(activation_qparams(model.range_of(model.plan.owners()[0], ONNX))[0])
    limit = leaving / 2 + (entering / 2 + 5 * image / 2) / 6
    got, exact = opened(backend, model, tmp_path)(images), run(network, images)
    assert 0.2 < (exact == 0).mean() + (exact == 1).mean() < 0.8, "the clamp is not tried"
    assert abs(got - exact).max() < limit * 1.001, f"off by {abs(got - exact).max():.5f}, not {limit:.5f}"


@pytest.mark.parametrize("name", ["gated", "normalised"])
def test_a_saved_model_lowers_to_the_same(name, request, tmp_path):
    model = request.getfixturevalue(name)
    files = tmp_path / "q.json", tmp_path / "m.safetensors"
    files[0].write_text(json.dumps(description(model), allow_nan=False))
    files[1].write_bytes(weights_bytes(model))
    loaded = load_quantized(*files)
    assert description(loaded) == description(model)
    assert BACKENDS.get("onnx-x86").lower(loaded, {}) == BACKENDS.get("onnx-x86").lower(model, {})
