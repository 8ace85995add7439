"""What a recipe's budget makes of a job: one more step, and a table of what each point on the way costs."""

import numpy as np
import numpy.typing as npt

from qface_toolkit.backends import BACKENDS
from qface_toolkit.errors import RecipeError
from qface_toolkit.methods.mixed import Options
from qface_toolkit.pipeline._allocation import allocated_steps, allocates, check_allocation
from qface_toolkit.recipe import Recipe, Step

Floats = npt.NDArray[np.float32]
MIXED = "mixed"
ROUNDS, BUDGET_S = 60, 30.0


def steps_of(recipe: Recipe) -> tuple[Step, ...]:
    """Return the steps of a recipe, and the one that its budget asks for: a cosine at the end, bytes where they fit."""
    wanted = recipe.budget.cosine_mean
    added = () if wanted is None or allocates(recipe) else (Step(method=MIXED, options=Options(cosine_mean=wanted)),)
    return (*allocated_steps(recipe), *added)


def check_budget(recipe: Recipe) -> None:
    """Check that a recipe that mixes precisions or allocates widths says so once, and has a form that can.

    Raises:
        RecipeError: if it does not.
    """
    check_allocation(recipe)
    where = ["budget.cosine_mean"] if recipe.budget.cosine_mean is not None and not allocates(recipe) else []
    where += [f"steps.{number}.{MIXED}" for number, step in enumerate(recipe.steps) if step.method == MIXED]
    if len(where) > 1:
        what = "layers to keep in float can be chosen once"
        raise RecipeError(what, where=", ".join(where), fix="leave one of them")
    first = recipe.backends[0]
    if where and not BACKENDS.get(first).target.keeps_layers:
        what = f"only ONNX files can keep layers in float, and the first backend is {first}"
        raise RecipeError(what, where=where[0], fix="name onnx-x86 or onnx-arm first in backends, or drop the budget")
