"""Channels go until the budget is met, what is left makes up for them, and what cannot be had is said before."""

from dataclasses import replace

import pytest
from drawn_demo import demo_model, drawn_images, multiplications
from quantized import cosines, small_model, smooth_images

import qface_toolkit as qf
from qface_toolkit.canonical.edit import ensure_shapes
from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.errors import RecipeError
from qface_toolkit.methods import METHODS, Context, Foreseen, Record
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.quantize.target import ONNX

PRUNE = METHODS.get("prune")


@pytest.fixture(scope="module")
def model():
    return demo_model()


@pytest.fixture(scope="module")
def images():
    return drawn_images(96)


def macs(model):
    ensure_shapes(model.network, model.spec.input_size)
    return sum(multiplications(model.network).values())


def pruned(model, images, told=None, services=(), **options):
    kept = {} if told is None else told
    record = Record(lambda gift, values: kept.update({gift: values}))
    context = Context(images, ONNX, 0, 16, lambda done, total: None, (record, *services))
    return PRUNE.run(model, PRUNE.options(**{"images": 64, "rounds": 2, **options}), context)


@pytest.mark.slow
def test_multiplications_go_and_the_rest_makes_up_for_them(model, images):
    told = {}
    found = pruned(model, images[:64], told, macs=0.7)
    assert 0.6 < macs(found) / macs(model) <= 0.7
    said = told["narrowed"]
    assert said["by"] == "macs" and said["share"] == pytest.approx(macs(found) / macs(model), abs=1e-6)
    assert all(one["cosine_repaired"] > one["cosine_taken"] for one in said["rounds"])
    reached = cosines(found.embed(images[64:]), model.embed(images[64:])).mean()
    assert reached == pytest.approx(said["rounds"][-1]["cosine_repaired"], abs=0.03)
    widths = {node.name: len(module(node).weight) for node in found.network.graph.nodes if operation(node) in LAYERS}
    assert {name: now for name, (_, now) in said["channels"].items()} == widths
    by_size = pruned(model, images[:64], macs=0.7, ranking="magnitude", repair=False)
    assert reached > cosines(by_size.embed(images[64:]), model.embed(images[64:])).mean() + 0.1


@pytest.mark.slow
def test_bytes_are_those_of_weights(model, images):
    found = pruned(model, images[:32], rounds=1, bytes=0.6, repair=False)
    sizes = [
        sum(module(node).weight.numel() for node in one.network.graph.nodes if operation(node) in LAYERS)
        for one in (found, model)
    ]
    assert 0.5 < sizes[0] / sizes[1] <= 0.6


@pytest.mark.slow
def test_milliseconds_are_those_that_are_foreseen(model, images):
    """Whoever says that one layer takes all the time loses channels there and hardly elsewhere."""
    dear = next(node.name for node in model.network.graph.nodes if operation(node) == "conv")

    def foreseen(network):
        sizes = {
            node.name: float(module(node).weight.numel()) for node in network.graph.nodes if operation(node) in LAYERS
        }
        return {name: 1e6 * size if name == dear else size for name, size in sizes.items()}

    found = pruned(model, images[:32], services=[Foreseen(foreseen)], rounds=1, ms_share=0.6, repair=False)
    widths = [
        {node.name: len(module(node).weight) for node in one.network.graph.nodes if operation(node) in LAYERS}
        for one in (found, model)
    ]
    assert widths[0][dear] == widths[1][dear] // 2
    assert sum(now != before for now, before in zip(widths[0].values(), widths[1].values(), strict=True)) <= 2


@pytest.mark.slow
def test_a_budget_out_of_reach_is_told_with_what_is_within(model, images):
    with pytest.raises(RecipeError, match=r"0\.001 is out of reach: .* has 0\.\d{3} of it, and is predicted") as raised:
        pruned(model, images[:32], macs=0.001)
    assert raised.value.where == "budget.macs" and "ask for more than 0." in raised.value.fix


def test_layers_that_keep_theirs(model, images):
    found = small_model("mobilefacenet")
    with pytest.raises(RecipeError, match="no channel of this network can go"):
        pruned(replace(found, ranges={}), smooth_images(found.spec.input_size, 8), macs=0.5, keep=("*",))
    with pytest.raises(RecipeError, match="no layer is called strange"):
        PRUNE.check(PRUNE.options(macs=0.5, keep=("strange",)), found.network)


def test_one_wish():
    with pytest.raises(ValueError, match="say one of macs, ms_share and bytes"):
        PRUNE.options(macs=0.5, bytes=0.5)


@pytest.mark.slow
def test_a_pruned_network_is_compressed_and_opened_like_any_other(tmp_path):
    sets = [
        "budget.macs=0.7",
        "calibration.count=64",
        "steps.0.images=48",
        "steps.0.rounds=1",
        "budget.floor_cosine=null",
    ]
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("version: 1\nsteps: [prune: {}, calibrate]\nbackends: [onnx-x86, torch-x86]\n")
    report = qf.compress("demo", out=tmp_path / "out", recipe=str(recipe), sets=sets)
    assert [step.name for step in report.steps][1:3] == ["1. prune", "2. calibrate"]
    files = {one.name: one for one in report.artifacts}
    assert files["int8.x86.onnx"].size_bytes < 0.8 * files["float.onnx"].size_bytes / 3
    assert qf.verify(tmp_path / "out").trustworthy
    again = qf.export(tmp_path / "out", backend="onnx-arm")
    assert again is not None
