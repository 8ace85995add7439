"""Networks as programs hold them: wrapped, halved, with more outputs than one, quantized, or with no weights at all."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.ao import quantization as tq
from torch.ao.quantization import quantize_fx
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models import from_module


def tiny(size=8):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, size)).eval()


class Whole(nn.Module):
    """A backbone and what a program put around it."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, x):
        return self.backbone(x)


def compiled_in_place(network):
    network = copy.deepcopy(network)
    network.compile()
    return network


WRAPPED = {
    "DataParallel": nn.DataParallel,
    "OptimizedModule": torch.compile,
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
}
IMAGES = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("around", [True, False], ids=["around", "inside"])
def test_wrappers_are_taken_off(wrapper, around):
    network = tiny()
    wrap = WRAPPED[wrapper]
    given = wrap(network) if around else Whole(wrap(network))
    model = from_module(given)
    assert model.notes == ("given as an nn.Module", f"took the network out of {wrapper}")
    assert model.spec.name == ("Sequential" if around else "Whole")
    assert not any(type(module).__name__ == wrapper for module in model.network.modules())
    assert model.network.state_dict().keys() == (network if around else Whole(network)).state_dict().keys()
    assert torch.equal(model.network(IMAGES), network(IMAGES))


def test_a_network_that_is_compiled_in_place_is_taken_as_it_was_before():
    model = from_module(compiled_in_place(tiny()))
    assert model.notes == ("given as an nn.Module", "took the network out of torch.compile")
    assert torch.equal(model.network(IMAGES), tiny()(IMAGES))


def test_wrappers_of_wrappers_are_taken_off():
    model = from_module(nn.DataParallel(torch.optim.swa_utils.AveragedModel(tiny())))
    assert model.notes[1:] == ("took the network out of DataParallel", "took the network out of AveragedModel")


def test_what_is_inside_stays_wrapped_for_its_owner():
    given = Whole(nn.DataParallel(tiny()))
    from_module(given)
    assert isinstance(given.backbone, nn.DataParallel)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_become_float32_in_a_copy(dtype):
    given = tiny().to(dtype)
    model = from_module(given)
    assert f"converted {str(dtype).removeprefix('torch.')} weights to float32" in model.notes
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in given.parameters()} == {dtype}
    assert torch.equal(model.network[3].weight, given[3].weight.float())


class Returns(nn.Module):
    """A network whose outputs a function makes of the embedding."""

    def __init__(self, make):
        super().__init__()
        self.inside = tiny()
        self.make = make

    def forward(self, x):
        return self.make(self.inside(x))


OUTPUTS = {
    "norm behind": (lambda e: (e, e.norm(dim=1, keepdim=True)), "0 of 2"),
    "norm before": (lambda e: [e.norm(dim=1, keepdim=True), e], "1 of 2"),
    "map behind": (lambda e: (e, e[:, :, None, None].expand(-1, -1, 7, 7)), "0 of 2"),
    "dictionary": (lambda e: {"quality": e[:, :1], "feature": e}, "'feature' of 2"),
    "none behind": (lambda e: (e, None), "0 of 1"),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_the_only_embedding_of_several_outputs_is_taken(case):
    make, said = OUTPUTS[case]
    model = from_module(Returns(make))
    assert model.notes[1:] == (f"took its output {said} as the embedding: [8]",)
    assert model.spec.embedding_size == 8
    assert torch.equal(model.network(IMAGES), tiny()(IMAGES))
    traced = torch.fx.symbolic_trace(model.network)
    assert torch.equal(traced(IMAGES), tiny()(IMAGES))


def test_an_embedding_of_one_pixel_is_made_a_vector():
    model = from_module(Returns(lambda e: e[:, :, None, None]))
    assert model.notes[1:] == ("took its output as the embedding: [8, 1, 1]",)
    assert model.network(IMAGES).shape == (2, 8)


def test_outputs_that_may_both_be_the_embedding_are_refused():
    with pytest.raises(CheckpointError, match="several of which may be the embedding") as caught:
        from_module(Returns(lambda e: (e, e + 1)))
    assert "[[2, 8], [2, 8]]" in str(caught.value)


def observed(network):
    network.qconfig = tq.get_default_qconfig("x86")
    return tq.prepare(network)


def prepared_for_training(network):
    network.train().qconfig = tq.get_default_qat_qconfig("x86")
    return tq.prepare_qat(network)


def traced_and_prepared(network):
    return quantize_fx.prepare_fx(network, tq.get_default_qconfig_mapping("x86"), (IMAGES,))


QUANTIZED = {
    "observed": observed,
    "converted": lambda network: tq.convert(observed(network)),
    "prepared for training": prepared_for_training,
    "traced and prepared": traced_and_prepared,
    "traced and converted": lambda network: quantize_fx.convert_fx(traced_and_prepared(network)),
    "traced and a reference": lambda network: quantize_fx.convert_to_reference_fx(traced_and_prepared(network)),
    "dynamic": lambda network: tq.quantize_dynamic(network, {nn.Linear}),
}


@pytest.mark.parametrize("case", QUANTIZED)
def test_what_is_quantized_already_is_refused_in_one_sentence(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = QUANTIZED[case](tiny())
    with pytest.raises(
        CheckpointError, match="the network is prepared for quantization or quantized already"
    ) as caught:
        from_module(given)
    assert caught.value.fix
    assert len(str(caught.value).splitlines()) == 3


class Stubbed(nn.Module):
    """A float network that is written for eager quantization, and not prepared."""

    def __init__(self):
        super().__init__()
        self.quant, self.dequant, self.sum = tq.QuantStub(), tq.DeQuantStub(), torch.ao.nn.quantized.FloatFunctional()
        self.inside = tiny()

    def forward(self, x):
        y = self.inside(self.quant(x))
        return self.dequant(self.sum.add(y, y))


def test_stubs_of_a_float_network_are_no_quantization():
    assert from_module(Stubbed().eval()).spec.embedding_size == 8


@pytest.mark.parametrize("script", [torch.jit.script, lambda network: torch.jit.trace(network, IMAGES)])
@pytest.mark.parametrize("around", [True, False])
def test_torchscript_is_refused_in_one_sentence(script, around):
    scripted = script(tiny())
    with pytest.raises(CheckpointError, match="TorchScript program, whose layers cannot be changed any more"):
        from_module(scripted if around else Whole(scripted))


def test_what_is_no_module_is_refused():
    with pytest.raises(CheckpointError, match="must be an nn.Module, not dict"):
        from_module({"weight": torch.zeros(1)})


def test_networks_without_weights_are_refused_with_what_to_do():
    with pytest.raises(CheckpointError, match="main memory: 3.weight") as caught:
        from_module(nn.Sequential(*tiny()[:3], nn.LazyLinear(8)))
    assert "run it once" in caught.value.fix
    with torch.device("meta"):
        bare = tiny()
    with pytest.raises(CheckpointError, match="main memory: 0.weight") as caught:
        from_module(bare)
    assert "load its weights" in caught.value.fix


class Wrong(nn.Module):
    def forward(self, x):
        return x.reshape(2, 7)


def test_the_line_that_fails_is_named():
    with pytest.raises(CheckpointError, match="cannot take") as caught:
        from_module(Wrong())
    assert "test_given.py, line" in caught.value.where
    assert caught.value.where.endswith("in forward: return x.reshape(2, 7)")


MADE = {
    "L1Unstructured": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "PruningContainer": lambda layer: prune.random_structured(
        prune.l1_unstructured(layer, "weight", 0.3), "weight", 1, 0
    ),
    "WeightNorm": weight_norm,
    "_WeightNorm": parametrizations.weight_norm,
    "_SpectralNorm": parametrizations.spectral_norm,
    "SpectralNorm": spectral_norm,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("maker", MADE)
def test_weights_that_are_made_in_each_run_become_parameters(maker):
    given = tiny()
    MADE[maker](given[0])
    given.eval()
    model = from_module(given)
    assert model.notes[1:] == (f"computed the weights that {maker} makes anew in each run",)
    assert model.network.state_dict().keys() == tiny().state_dict().keys()
    torch.testing.assert_close(model.network(IMAGES), given(IMAGES), rtol=0, atol=1e-6)
    assert "0.weight" not in given.state_dict()
    copy.deepcopy(model.network)
