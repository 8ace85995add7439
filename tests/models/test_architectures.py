"""Every architecture against the key and shape lists of public checkpoints, and what all of them must be able to do."""

import pytest
import torch
from state_dicts import FACTS, random_state, read_fact
from torch import fx, nn

from qface_toolkit.models import ARCHITECTURES
from qface_toolkit.models._match import match, needed_shapes

LISTS = {
    "iresnet18": "iresnet18",
    "iresnet34": "iresnet34",
    "iresnet50": "iresnet50",
    "iresnet100": "iresnet100",
    "mobilefacenet_xiaoccer_112x96": "mobilefacenet",
    "mobilefacenet_foamliu_128": "mobilefacenet-relu6",
    "mobilefacenet_quantface_128": "mobilefacenet-quantface",
    "mobilefacenet_arcface_mbf_512": "mobilefacenet-mbf",
    "mobilefacenet_arcface_mbf_large_512": "mobilefacenet-mbf-large",
    "pocketnet_s_128": "pocketnet-s-128",
    "pocketnet_s_256": "pocketnet-s-256",
    "pocketnet_m_128": "pocketnet-m-128",
    "pocketnet_m_256": "pocketnet-m-256",
}

MILLION_MACS = {
    # PocketNet's and MobileFaceNet's as counted from the papers' layer tables, multiplications of conv and linear only.
    "pocketnet-s-128": 283.5,
    "pocketnet-s-256": 283.6,
    "pocketnet-m-128": 538.2,
    "pocketnet-m-256": 538.3,
    "mobilefacenet-quantface": 221.0,
}

LARGE = {"iresnet34", "iresnet50", "iresnet100"}
"""Networks whose forward pass is left to the slow tier."""

names = pytest.mark.parametrize("name", ARCHITECTURES.names())


def test_every_list_and_every_architecture_is_covered():
    assert sorted(LISTS) == sorted(path.stem for path in FACTS.glob("*.tsv"))
    assert sorted(LISTS.values()) == list(ARCHITECTURES.names())


@pytest.mark.parametrize("listed", LISTS)
def test_recognised_from_keys_and_shapes(listed):
    fact = read_fact(listed)
    found = match(fact.shapes)
    assert found.plan.name == LISTS[listed]
    assert not found.difference
    assert needed_shapes(found.plan) == fact.shapes
    assert len(fact.shapes) == fact.entries
    assert found.plan == found.architecture.published
    assert found.architecture.count_parameters() == fact.parameters


@names
def test_registered_under_the_name_of_its_plan(name):
    architecture = ARCHITECTURES.get(name)
    assert architecture.published.name == name
    assert architecture.source
    assert min(architecture.std) > 0
    assert architecture.read(needed_shapes(architecture.published)) == architecture.published


@names
def test_traceable_by_fx_and_free_of_batch_size(name):
    with torch.device("meta"):
        network = ARCHITECTURES.get(name).published.build().eval()
        traced = fx.symbolic_trace(network)
        plan = ARCHITECTURES.get(name).published
        for batch in (1, 3):
            embeddings = traced(torch.zeros(batch, 3, *plan.input_size))
            assert tuple(embeddings.shape) == (batch, plan.embedding_size)


@names
def test_activations_and_sums_are_ones_the_quantizer_knows(name):
    with torch.device("meta"):
        traced = fx.symbolic_trace(ARCHITECTURES.get(name).published.build().eval())
    functions = {node.target.__name__ for node in traced.graph.nodes if node.op == "call_function"}
    assert functions <= {"add", "flatten", "cat", "getitem"}
    assert not [node for node in traced.graph.nodes if node.op in ("call_method", "get_attr")]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in ARCHITECTURES.names()]
)
def test_traced_network_computes_the_same(name):
    plan = ARCHITECTURES.get(name).published
    network = plan.build().eval()
    network.load_state_dict(random_state(needed_shapes(plan)))
    image = torch.randn(1, 3, *plan.input_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        embedding = network(image)
        torch.testing.assert_close(fx.symbolic_trace(network)(image), embedding, rtol=0, atol=0)
    assert embedding.isfinite().all()
    assert embedding.std() > 0


@pytest.mark.parametrize("name", MILLION_MACS)
def test_multiplications_are_those_of_the_paper(name):
    with torch.device("meta"):
        network = ARCHITECTURES.get(name).published.build().eval()
        assert count_macs(network) / 1e6 == pytest.approx(MILLION_MACS[name], abs=0.06)


def count_macs(network: nn.Module) -> int:
    macs = 0

    def add(module, _inputs, output):
        nonlocal macs
        outputs = output.numel() if isinstance(module, nn.Linear) else output.numel() // module.out_channels
        macs += outputs * module.weight.numel() if isinstance(module, nn.Conv2d) else module.weight.numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(add)
    network(torch.zeros(1, 3, 112, 112))
    return macs


def test_narrower_mobilefacenet_is_recognised():
    fact = read_fact("mobilefacenet_xiaoccer_112x96")
    shapes = {key: _halved(shape) for key, shape in fact.shapes.items()}
    shapes["linear7.conv.weight"] = (*shapes["linear7.conv.weight"][:2], 7, 7)
    found = match(shapes)
    assert found.plan.name == "mobilefacenet"
    assert found.plan.input_size == (112, 112)
    assert found.plan.embedding_size == 64
    assert [step.stride for step in found.plan.bottlenecks] == [2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1]
    assert not found.difference


def _halved(shape: tuple[int, ...]) -> tuple[int, ...]:
    kernel = shape[2:]
    return (*(size // 2 if size > 3 else size for size in shape[:2]), *kernel)


def test_shorter_iresnet_is_recognised():
    fact = read_fact("iresnet18")
    shapes = {key: shape for key, shape in fact.shapes.items() if not key.startswith("layer3.1.")}
    found = match(shapes)
    assert found.plan.name == "iresnet16"
    assert not found.difference


def test_prelu_layout_recognises_the_wider_crop():
    shapes = dict(read_fact("mobilefacenet_xiaoccer_112x96").shapes)
    assert match(shapes).plan.input_size == (112, 96)
    shapes["linear7.conv.weight"] = (512, 1, 7, 7)
    assert match(shapes).plan.input_size == (112, 112)
