"""Fresh networks to be trained: their widths and embeddings, their weights, and the words that stand for them."""

import dataclasses
import itertools

import pytest
import torch
from tiers import in_tiers

from qface_toolkit.errors import CheckpointError, RecipeError, UnknownName
from qface_toolkit.models import (
    ARCHITECTURES,
    ScalablePlan,
    build_student,
    load_model,
    open_student,
    scaled_channels,
    student_bytes,
)
from qface_toolkit.models._match import match, needed_shapes

SCALABLE = [name for name, one in ARCHITECTURES.entries().items() if isinstance(one.published, ScalablePlan)]
WIDTHS = (0.25, 0.5, 0.75, 1, 1.5)
SMALL = {"name": "pocketnet-m-128", "width": 0.25}


def weights(model):
    return model.network.state_dict()


def same(one, other):
    return all(torch.equal(tensor, weights(other)[key]) for key, tensor in weights(one).items())


def test_families_that_have_widths():
    kinds = {"pocketnet", "mobilefacenet", "iresnet"}
    assert {name for name in ARCHITECTURES.names() if name.startswith(tuple(kinds))} == set(SCALABLE)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("pocketnet-s-128", 925_632),
        ("pocketnet-s-256", 991_424),
        ("pocketnet-m-128", 1_686_656),
        ("pocketnet-m-256", 1_752_448),
    ],
)
def test_published_pocketnets_have_the_parameters_of_the_paper(name, parameters):
    model = build_student(name)
    assert sum(parameter.numel() for parameter in model.network.parameters()) == parameters
    assert (model.spec.name, model.spec.input_size) == (name, (112, 112))


DEEP = ("iresnet50", "iresnet100", "mobilefacenet-mbf-large", "pocketnet-s-256")


@pytest.mark.parametrize("name", in_tiers(SCALABLE, fast=set(SCALABLE) - {*DEEP}))
def test_every_width_is_recognised_again(name):
    published = ARCHITECTURES.get(name).published
    assert published.scaled(1) is published or published.scaled(1) == published
    for width, size in itertools.product(WIDTHS, (published.embedding_size, 64)):
        plan = dataclasses.replace(published.scaled(width), embedding_size=size)
        found = match(needed_shapes(plan))
        assert found.plan == plan, width
        assert not found.difference
        assert found.architecture.facts == ARCHITECTURES.get(name).facts


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.1, 0.33, 0.6, 1.1, 2.7, 4])
@pytest.mark.parametrize("name", ["pocketnet-s-128", "mobilefacenet", "mobilefacenet-mbf", "iresnet18"])
def test_odd_widths_are_recognised_and_run(name, width):
    plan = ARCHITECTURES.get(name).published.scaled(width)
    assert match(needed_shapes(plan)).plan == plan
    with torch.device("meta"):
        assert plan.build().eval()(torch.zeros(2, 3, *plan.input_size)).shape == (2, plan.embedding_size)


def test_channels_are_legal():
    assert [scaled_channels(64, width) for width in (1, 0.25, 0.01, 0.7, 1.5)] == [64, 16, 8, 48, 96]
    assert scaled_channels(10, 1) == 10
    assert ARCHITECTURES.get("pocketnet-s-128").published.scaled(0.1).width == 4


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, again, other = (build_student(**SMALL, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert same(one, again)
    assert one.source_sha256 == again.source_sha256 != other.source_sha256
    assert not same(one, other)


def test_facts_are_the_architectures_and_not_those_of_its_weights():
    model = build_student("mobilefacenet-relu6", width=0.25, embedding_size=32)
    published = ARCHITECTURES.get("mobilefacenet-relu6")
    assert (model.spec.mean, model.spec.std, model.spec.color) == (published.mean, published.std, published.color)
    assert model.spec.embedding_size == 32
    student = build_student("sface").spec
    assert (student.license, student.origin) == ("unknown", "fresh weights, not trained")
    assert any("not trained" in note for note in model.notes)
    assert not model.network.training


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pocketnet-s-128", "pocketnet-m-128"])
def test_signals_neither_vanish_nor_explode(name):
    network = build_student(name).network.train()
    spread = []
    for cell in network.cells:
        cell.register_forward_hook(lambda _cell, _inputs, output: spread.append(float(output.detach().std())))
    images = torch.randn(4, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    embeddings = network(images)
    wanted = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(1))
    (torch.nn.functional.normalize(embeddings) * wanted).sum().backward()
    kernels = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    norms = [float(parameter.grad.norm() / parameter.detach().norm()) for parameter in (kernels[0], kernels[-1])]
    assert len(spread) == len(network.cells)
    assert all(0.5 < one < 5 for one in spread)
    assert all(1e-2 < one < 1e3 for one in norms)


@pytest.mark.parametrize("width", [0, -1, 0.01, 100, float("nan"), float("inf")])
def test_a_width_that_is_none_is_refused(width):
    with pytest.raises(RecipeError, match="width is 0.1 to 4.0 times"):
        build_student("mobilefacenet", width=width)


def test_an_architecture_of_one_width_names_those_that_have_several():
    with pytest.raises(RecipeError, match="edgeface-xxs has one width alone") as raised:
        build_student("edgeface-xxs", width=0.5)
    assert "pocketnet-s-128" in raised.value.fix
    assert "edgeface" not in raised.value.fix


@pytest.mark.parametrize("name", in_tiers(ARCHITECTURES.names(), fast=["edgeface-xxs", "ir50", "magface-iresnet18"]))
def test_another_embedding_is_recognised_or_refused(name):
    plan = ARCHITECTURES.get(name).published
    try:
        model = build_student(name, embedding_size=72)
    except RecipeError as error:
        assert f"embeddings of {plan.embedding_size} numbers alone" in error.what
        return
    assert model.spec.embedding_size == 72
    student_bytes(model, "drawn")


@pytest.mark.parametrize("size", [0, 3, 5000])
def test_an_embedding_that_is_none_is_refused(size):
    with pytest.raises(RecipeError, match="an embedding has 4 to 4096 numbers"):
        build_student("mobilefacenet", embedding_size=size)


@pytest.mark.parametrize("word", ["pocketnet-s-129", "pocketnet", "mobilefacenet-0.5", "nothing of the kind"])
def test_a_word_that_is_nothing_names_the_closest(word):
    with pytest.raises(UnknownName, match=f"there is no architecture called '{word}'") as raised:
        open_student(word)
    assert "given by its path" in raised.value.fix
    with pytest.raises(UnknownName):
        build_student(word)


@pytest.mark.parametrize("word", ["pocketnet.pth", "runs/pocketnet-s", "./pocketnet-s-128"])
def test_a_word_that_is_a_path_is_missed_as_a_file(word):
    with pytest.raises(CheckpointError):
        open_student(word)


def test_opens_a_name():
    model = open_student("pocketnet-m-128", width=0.25, embedding_size=64, seed=3, overrides={"color": "bgr"})
    assert (model.spec.name, model.spec.color) == ("pocketnet-8x9-64", "bgr")
    assert same(model, build_student("pocketnet-m-128", width=0.25, embedding_size=64, seed=3))
    with pytest.raises(RecipeError):
        open_student("pocketnet-m-128", overrides={"colour": "bgr"})


def test_opens_a_checkpoint_as_it_is(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(student_bytes(build_student(**SMALL), "drawn"))
    model = open_student(str(path), overrides={"license": "MIT"})
    assert same(model, load_model(path))
    assert model.spec.license == "MIT"
    with pytest.raises(RecipeError, match="as wide as its weights are"):
        open_student(str(path), width=0.5)
    with pytest.raises(RecipeError, match="embeddings of 128 numbers, and not 64"):
        open_student(str(path), embedding_size=64)
    assert open_student(str(path), embedding_size=128).spec == load_model(path).spec
    assert open_student("demo").spec == load_model("demo").spec


@pytest.mark.slow
def test_a_network_that_weights_do_not_bring_back_is_refused_before_training(finished):
    with pytest.raises(CheckpointError, match="of no architecture known here by its weights' names"):
        open_student(str(finished / "out" / "float.onnx"))
