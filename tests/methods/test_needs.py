"""What a method needs is declared, and what is not there is told in one sentence of one shape, planned or run."""

from typing import get_args

import pytest
from quantized import small_model, smooth_images

from qface_toolkit.errors import RecipeError
from qface_toolkit.methods import (
    METHODS,
    Context,
    Need,
    Reference,
    Source,
    apply_method,
    check_steps,
    gives,
    step_giving,
    wanted_of,
)
from qface_toolkit.quantize.target import ONNX, TORCH_X86
from qface_toolkit.recipe import Step

OPTIONS = {"allocate": [{}, {"bytes": 0.2}], "prune": [{}, {"macs": 0.5}, {"ms_share": 0.5}]}
NEEDS = [
    (name, need, given)
    for name in METHODS.names()
    for given in OPTIONS.get(name, [{}])
    for need in METHODS.get(name).needed(METHODS.get(name).options(**given))
]
FIXES = {
    "images": "calibration.count",
    "ranges": "calibrate step before",
    "mixing": "onnx-x86",
    "packing": "--backend",
    "source": "Source",
    "crops": "Crops",
    "less": "budget.macs",
    "times": "onnx-x86",
}


def step(name, given=None):
    return Step(method=name, options=METHODS.get(name).options(**(given or {})))


@pytest.fixture(scope="module")
def model():
    return small_model("mobilefacenet")


@pytest.mark.parametrize(("name", "need", "given"), NEEDS)
def test_a_run_without_it_is_refused(name, need, given, model):
    images = smooth_images(model.spec.input_size, 4)[: 0 if need == "images" else 4]
    ranges = {} if need == "ranges" else model.ranges
    services = () if need == "source" else (Source(None),)
    context = Context(images, TORCH_X86 if need == "mixing" else ONNX, 0, 4, lambda done, total: None, services)
    with pytest.raises(RecipeError, match=f"^{name} needs ") as raised:
        apply_method(name, step(name, given).options, model.with_ranges(ranges), context)
    assert FIXES.get(need, "budget.bytes") in raised.value.fix


@pytest.mark.parametrize(("name", "need", "given"), NEEDS)
def test_a_plan_without_it_is_refused_with_its_place(name, need, given):
    others = {*get_args(Need)} - {need}
    check_steps([("steps.3", step(name, given))], others | {need})
    with pytest.raises(RecipeError, match=f"^{name} needs ") as raised:
        check_steps([("steps.3", step(name, given))], others, {need: "there is none"})
    assert raised.value.where == "steps.3" and "there is none" in raised.value.what
    assert FIXES.get(need, "budget.bytes") in raised.value.fix


def test_a_plan_knows_what_steps_give_and_take():
    check_steps([("0", step("calibrate")), ("1", step("correct_bias"))], {"images"})
    with pytest.raises(RecipeError, match="correct_bias needs ranges") as raised:
        check_steps([("0", step("calibrate")), ("1", step("equalize")), ("2", step("correct_bias"))], {"images"})
    assert raised.value.where == "2"


def test_a_budget_finds_the_step_that_gives_what_it_is_about():
    wide, kept = step_giving("widths", bytes=0.3), step_giving("kept", cosine_mean=0.9)
    assert gives(wide, "widths") and not gives(wide, "kept") and gives(kept, "kept")
    assert wanted_of([kept, wide], "widths", "bytes") == 0.3
    assert wanted_of([kept], "widths", "bytes") is None


def test_a_context_holds_services_by_their_kind():
    asked = Reference(lambda inputs: inputs)
    nobody = Context(None, ONNX, 0, 4, lambda done, total: None)
    assert nobody.service(Reference) is None
    assert Context(None, ONNX, 0, 4, lambda done, total: None, (asked,)).service(Reference) is asked
