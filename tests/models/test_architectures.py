"""Every architecture against the key and shape lists of public checkpoints, and what all of them must be able to do."""

import pytest
import torch
from layouts import LAYOUTS
from state_dicts import FACTS, random_state, read_fact
from tiers import in_tiers
from torch import fx, nn

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.models import ARCHITECTURES, ModelSpec
from qface_toolkit.models._match import match, needed_shapes

LISTS = {file.stem: read_fact(file.stem) for file in sorted(FACTS.glob("*.tsv"))}
names = pytest.mark.parametrize("name", ARCHITECTURES.names())
ONE_OF_A_KIND = (
    "adaface-ir18",
    "edgeface-xxs",
    "iresnet18",
    "magface-iresnet18",
    "mobilefacenet",
    "mobilefacenet-evolve",
    "mobilefacenet-mbf",
    "mobilefacenet-quantface",
    "mobilefacenet-relu6",
    "pocketnet-m-128",
    "sface",
)
"""The others of each kind have more layers of the same."""


def test_every_list_is_that_of_an_architecture():
    assert len(LISTS) >= 13
    assert LISTS.keys() <= set(ARCHITECTURES.names())


@pytest.mark.parametrize("listed", in_tiers(LISTS, fast=LISTS.keys() & {*ONE_OF_A_KIND}))
def test_recognised_from_keys_and_shapes(listed):
    fact = LISTS[listed]
    found = match(fact.shapes)
    assert found.plan.name == listed
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


@pytest.mark.parametrize("name", in_tiers(ARCHITECTURES.names(), fast=ONE_OF_A_KIND))
def test_traceable_by_fx_and_free_of_batch_size(name):
    with torch.device("meta"):
        network = ARCHITECTURES.get(name).published.build().eval()
        traced = fx.symbolic_trace(network)
        plan = ARCHITECTURES.get(name).published
        for batch in (1, 3):
            embeddings = traced(torch.zeros(batch, 3, *plan.input_size))
            assert tuple(embeddings.shape) == (batch, plan.embedding_size)


@pytest.mark.parametrize("name", in_tiers(LAYOUTS, fast=["mobilefacenet"]))
def test_traced_and_canonical_networks_compute_the_same(name):
    plan = ARCHITECTURES.get(name).published
    network = plan.build().eval()
    network.load_state_dict(random_state(needed_shapes(plan)))
    image = torch.randn(1, 3, *plan.input_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        embedding = network(image)
        torch.testing.assert_close(fx.symbolic_trace(network)(image), embedding, rtol=0, atol=0)
        canonical = canonicalise(network, plan.input_size)(image)
    assert embedding.isfinite().all()
    assert embedding.std() > 0
    off = float((canonical - embedding).abs().max() / embedding.abs().max())
    assert off < 1e-4, f"off by {off:.2e}"


@names
def test_facts_are_those_of_a_model(name):
    architecture = ARCHITECTURES.get(name)
    plan = architecture.published
    spec = ModelSpec(plan.name, plan.input_size, plan.embedding_size, **architecture.facts)
    assert spec.override(architecture.facts) == spec
    assert spec.preprocessing == {key: getattr(architecture, key) for key in ("mean", "std", "color", "crop")}


COUNTED = [name for name, fact in LISTS.items() if fact.million_multiplications]


@pytest.mark.parametrize("name", in_tiers(COUNTED, fast=COUNTED[:1]))
def test_multiplications_are_those_of_the_paper(name):
    with torch.device("meta"):
        network = ARCHITECTURES.get(name).published.build().eval()
        assert count_macs(network) / 1e6 == pytest.approx(LISTS[name].million_multiplications, abs=0.06)


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
    fact = read_fact("mobilefacenet")
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
    shapes = dict(read_fact("mobilefacenet").shapes)
    assert match(shapes).plan.input_size == (112, 96)
    shapes["linear7.conv.weight"] = (512, 1, 7, 7)
    assert match(shapes).plan.input_size == (112, 112)


@pytest.mark.parametrize(("name", "color"), [("irse50", "rgb"), ("ir101", "rgb"), ("adaface-ir18", "bgr")])
def test_a_shorter_relative_has_the_facts_of_its_family(name, color):
    shapes = {key: shape for key, shape in read_fact(name).shapes.items() if not key.startswith("body.1.")}
    # The units are numbered without a gap.
    numbers = {int(key.split(".")[1]) for key in shapes if key.startswith("body.")}
    places = {str(number): str(place) for place, number in enumerate(sorted(numbers))}
    parts = [(key.split("."), shape) for key, shape in shapes.items()]
    moved = {".".join([w, places[n], *r]) if w == "body" else ".".join([w, n, *r]): s for (w, n, *r), s in parts}
    found = match(moved)
    assert not found.difference
    assert found.plan.name not in ARCHITECTURES.names()
    assert found.architecture.color == color
