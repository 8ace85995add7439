"""Which methods there are, and what stands before each: its needs are checked here, in a plan and in a run alike."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from qface_toolkit.errors import RecipeError
from qface_toolkit.methods._base import Context, Gift, Method, Model, Need
from qface_toolkit.methods._services import Crops, FileSizes, Foreseen, Source
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.recipe import Step
from qface_toolkit.registry import Registry

METHODS: Registry[Method] = Registry("method", "qface_toolkit.methods")

_NEEDS: Mapping[Need, tuple[str, str]] = {
    "images": ("calibration images", "ask for at least one: calibration.count"),
    "crops": ("calibration images as they came", "put Crops among the services of its context"),
    "ranges": ("ranges", "put a calibrate step before it"),
    "mixing": (
        "a first backend that keeps layers in float, as only ONNX files can",
        "name onnx-x86 or onnx-arm first in backends, or leave this out",
    ),
    "packing": (
        "a packed file for its budget of bytes: others hold every weight in eight bits",
        "add --backend onnx-packed",
    ),
    "less": ("to be told what shall be left", "--set budget.macs=0.5 or --set budget.ms_share=0.6"),
    "times": (
        "a first backend whose times are known",
        "name onnx-x86 or onnx-arm first in backends, or ask for multiplications: budget.macs",
    ),
    "source": ("the float model as it came", "put a Source among the services of its context"),
    "budget": ("a budget, of bytes or of a cosine", "--set budget.bytes=0.2 or --set budget.cosine_mean=0.99"),
}
"""What is needed, in words, and what to do where it is not there."""


def apply_method(name: str, options: Any, model: QuantizedModel, context: Context) -> Model:  # noqa: ANN401 - its own
    """Return what a method makes of a model, which is left alone.

    Raises:
        RecipeError: if anything that the method needs is not there.
        QFaceError: whatever it raises itself.
    """
    method = METHODS.get(name)
    instead = f"here the form is that of {context.target.name}"
    _check_needs(name, method.needed(options), _there(model, context), {"mixing": instead})
    return method.run(model, options, context)


def _there(model: QuantizedModel, context: Context) -> set[str]:
    """Return what a method will find."""
    there = {
        "images": len(context.inputs) > 0,
        "crops": context.service(Crops) is not None,
        "ranges": set(model.ranges) == set(model.plan.owners()),
        "mixing": context.target.keeps_layers,
        "packing": context.service(FileSizes) is not None,
        "times": context.service(Foreseen) is not None,
        "source": context.service(Source) is not None,
    }
    return {need for need, found in there.items() if found}


def check_steps(
    placed: Iterable[tuple[str, Step]], there: Collection[Need], instead: Mapping[Need, str] | None = None
) -> None:
    """Check that every step finds what it needs, before anything is done.

    `placed` are the steps, each with the key of the recipe that asks for it. `there` is what a job has from the start,
    `instead` says in words what it has in place of something.

    Raises:
        RecipeError: naming the first step that lacks something, and what to do.
    """
    found: set[str] = set(there)
    for where, step in placed:
        method = METHODS.get(step.method)
        _check_needs(step.method, method.needed(step.options), found, instead or {}, where)
        found = {*found.difference(method.takes), *method.gives}


def _check_needs(
    name: str, needed: Iterable[Need], there: set[str], instead: Mapping[Need, str], where: str | None = None
) -> None:
    for need in needed:
        if need not in there:
            what, fix = _NEEDS[need]
            told = f"; {instead[need]}" if need in instead else ""
            raise RecipeError(f"{name} needs {what}{told}", where=where, fix=fix)


def gives(step: Step, gift: Gift) -> bool:
    """Tell whether a step gives something."""
    return gift in METHODS.get(step.method).gives


def step_giving(gift: Gift, **options: object) -> Step:
    """Return a step of the method that gives something, with these options."""
    name = next(name for name in METHODS.names() if gift in METHODS.get(name).gives)
    return Step(method=name, options=METHODS.get(name).options.model_validate(options))


def wanted_of(steps: Iterable[Step], gift: Gift, option: str) -> float | None:
    """Return what the step that gives something is to reach, by an option of it; None if no step is or says so."""
    found: float | None = next((getattr(step.options, option) for step in steps if gives(step, gift)), None)
    return found
