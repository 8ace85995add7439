"""What a job's first file will take beside float.fast.onnx, before any work, and whether a budget can be met."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from qface_toolkit.backends import BACKENDS, Backend, float_files, foreign
from qface_toolkit.errors import RecipeError
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.forms import operator_table, read_form_tables
from qface_toolkit.recipe import Recipe
from qface_toolkit.report.cost import in_layers
from qface_toolkit.report.figures import milliseconds
from qface_toolkit.result.job import Job
from qface_toolkit.runtimes import FAST_ARTIFACT
from qface_toolkit.times import TimeTable, read_table

DOUBT = 1.15
"""How far a prediction may be off: what it puts out of reach by more than that is refused before any work."""
NAMED = 5
NOTHING_US = 3.0
"""Microseconds of a layer that a prediction cannot tell from nothing."""


@dataclass(frozen=True)
class Expected:
    """Microseconds of the layers of the first file, in its fastest forms, and of the same layers in float.fast.onnx."""

    artifact: str
    integer_us: Mapping[str, float]
    float_us: Mapping[str, float]

    @property
    def integer_ms(self) -> float:
        """Return the milliseconds of the first file."""
        return sum(self.integer_us.values()) / 1000

    @property
    def float_ms(self) -> float:
        """Return the milliseconds of float.fast.onnx."""
        return sum(self.float_us.values()) / 1000

    @property
    def times_faster(self) -> float:
        """Return how many times as fast as float.fast.onnx the file can be."""
        return self.float_ms / self.integer_ms

    def short_of(self, wanted: float) -> list[str]:
        """Return the layers that are not so many times as fast as in float, those that miss it by most first."""
        lacking = {name: wanted * time - self.float_us.get(name, 0.0) for name, time in self.integer_us.items()}
        return [name for name in sorted(lacking, key=lambda name: -lacking[name]) if lacking[name] > NOTHING_US]


def expect(job: Job) -> Expected | None:
    """Return what a planned job's first file will take; None where nothing is known of its runtime's times."""
    tables = job.form_tables or read_form_tables()
    return _expected(job.recipe, job.canonical, job.model.spec, operator_table(tables))


def check_speed(recipe: Recipe, canonical: fx.GraphModule, spec: ModelSpec) -> None:
    """Check that a wanted speed can be measured here, and that the fastest forms of all layers may reach it.

    Raises:
        RecipeError: saying what can be reached, and at which layers it fails.
    """
    wanted, first = recipe.budget.times_faster, BACKENDS.get(recipe.backends[0])
    if wanted is None:
        return
    where = "budget.times_faster"
    if first.runtime.fast_name != FAST_ARTIFACT or (why := foreign(first)) is not None:
        told = "its runtime does not run float.fast.onnx" if first.runtime.fast_name != FAST_ARTIFACT else why
        what = f"the speed of {first.artifact}, the first file, cannot be compared with {FAST_ARTIFACT} here: {told}"
        raise RecipeError(what, where=where, fix="name an ONNX backend for this machine first, or leave the budget out")
    found = _expected(recipe, canonical, spec, read_table())
    if found is None or wanted <= found.times_faster * DOUBT:
        return
    layers = [
        f"{name} ({_us(found.integer_us[name])}, in float {_us(found.float_us.get(name, 0.0))})"
        for name in found.short_of(wanted)
    ]
    others = f" and {len(layers) - NAMED} more" if len(layers) > NAMED else ""
    what = (
        f"no form of the layers makes {first.artifact} {wanted:g} times as fast as {FAST_ARTIFACT}: the table of "
        f"operator times predicts {found.times_faster:.2f} times ({milliseconds(found.integer_ms)} and "
        f"{milliseconds(found.float_ms)} ms). It fails at {', '.join(layers[:NAMED])}{others}"
    )
    raise RecipeError(
        what, where=where, fix=f"ask for {found.times_faster:.1f} or less: --set {where}={found.times_faster:.1f}"
    )


def _us(time_us: float) -> str:
    return f"{time_us / 1000:.3f} ms"


def _expected(recipe: Recipe, canonical: fx.GraphModule, spec: ModelSpec, times: TimeTable) -> Expected | None:
    first: Backend = BACKENDS.get(recipe.backends[0])
    integer = first.foresee(canonical, spec, times)
    floats = (one.predict(canonical, spec, times) for one in float_files())
    fast = next((found for found in floats if found is not None), None)
    if integer is None or fast is None:
        return None
    return Expected(first.artifact, integer, in_layers(fast, list(integer)))
