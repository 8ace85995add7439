"""What a recipe's budget makes of its steps, and what of both can be refused before anything heavy is read."""

from collections.abc import Mapping, Sequence

from torch import fx

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.graph import inputs, operation
from qface_toolkit.errors import RecipeError
from qface_toolkit.evidence.allocation import packed_backends
from qface_toolkit.methods import Gift, Need, check_steps, gives, step_giving
from qface_toolkit.recipe import Budget, Recipe, Step

Placed = tuple[str, Step]
"""The key of the recipe that asks for a step, and the step."""

AMONG_ISLANDS = 0.99
"""The mean cosine up to which a network with islands keeps layers in float, if nobody says anything else."""

_ONCE: Mapping[Gift, str] = {
    "widths": "widths can be allocated once",
    "kept": "layers to keep in float can be chosen once",
}


def steps_of(recipe: Recipe) -> tuple[Step, ...]:
    """Return the steps of a recipe, and the one that its budget asks for."""
    return tuple(step for _, step in _placed_steps(recipe))


def _placed_steps(recipe: Recipe) -> list[Placed]:
    """Return a recipe's steps with what its budget adds: widths behind the last ranges, layers in float at the end.

    A budget steers the step that gives widths, whatever that wants itself. A floor adds nothing where widths or layers
    are chosen anyway, nor where nothing can be kept in float: there it is judged and no more.
    """
    placed, budget = _narrowing(recipe), recipe.budget
    if budget.bytes is not None and not any(gives(step, "widths") for _, step in placed):
        place = 1 + max((number for number, (_, step) in enumerate(placed) if gives(step, "ranges")), default=-1)
        placed.insert(place, ("budget.bytes", step_giving("widths", bytes=budget.bytes)))
    if any(gives(step, "widths") for _, step in placed):
        return [(where, _steered(step, budget)) for where, step in placed]
    if budget.cosine_mean is not None:
        placed.append(("budget.cosine_mean", step_giving("kept", cosine_mean=budget.cosine_mean)))
    if budget.floor_cosine is not None and _can_be_mended(recipe, placed):
        placed.append(("budget.floor_cosine", step_giving("mended", cosine_mean=budget.floor_cosine)))
    return placed


def _narrowing(recipe: Recipe) -> list[Placed]:
    """Return a recipe's steps with what narrows the network first of all, and as far as the budget says."""
    placed = [(f"steps.{number}.{step.method}", step) for number, step in enumerate(recipe.steps)]
    wanted = {"macs": recipe.budget.macs, "ms_share": recipe.budget.ms_share}
    if set(wanted.values()) == {None}:
        return placed
    if not any(gives(step, "narrowed") for _, step in placed):
        name = next(f"budget.{key}" for key, value in wanted.items() if value is not None)
        return [(name, step_giving("narrowed", **wanted)), *placed]
    own = {**wanted, "bytes": None}
    return [
        (
            where,
            Step(method=step.method, options=step.options.model_copy(update=own)) if gives(step, "narrowed") else step,
        )
        for where, step in placed
    ]


def _can_be_mended(recipe: Recipe, placed: Sequence[Placed]) -> bool:
    chosen = any(gives(step, gift) for _, step in placed for gift in ("kept", "mended", "simulation"))
    ranged = any(gives(step, "ranges") for _, step in placed)
    return ranged and not chosen and BACKENDS.get(recipe.backends[0]).target.keeps_layers


def with_islands(recipe: Recipe, canonical: fx.GraphModule) -> Recipe:
    """Return the recipe with a cosine to reach, for a network with islands whose recipe wants nothing of the kind.

    What stands around attention and norms has outliers that eight bits a tensor cannot hold.
    """
    inner = any(operation(node) == "island" and operation(inputs(node)[0]) != "input" for node in canonical.graph.nodes)
    mixes = BACKENDS.get(recipe.backends[0]).target.keeps_layers
    steered = any(gives(step, gift) for _, step in _placed_steps(recipe) for gift in ("widths", "kept", "simulation"))
    if not inner or not mixes or steered:
        return recipe
    return recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"cosine_mean": AMONG_ISLANDS})})


def _steered(step: Step, budget: Budget) -> Step:
    """Return a step that gives widths with what the budget wants in place of its own wish."""
    wanted = {"bytes": budget.bytes, "cosine_mean": budget.cosine_mean}
    if not gives(step, "widths") or set(wanted.values()) == {None}:
        return step
    return Step(method=step.method, options=step.options.model_copy(update=wanted))


def check_budget(recipe: Recipe) -> None:
    """Check that a recipe chooses widths and layers once, and that each of its steps will find what it needs.

    Raises:
        RecipeError: if it does not.
    """
    if recipe.budget.bytes is not None and recipe.budget.cosine_mean is not None:
        what = "widths can be allocated for bytes or for a cosine, not for both"
        raise RecipeError(what, where="budget.bytes, budget.cosine_mean", fix="leave one of them: the other follows")
    if recipe.budget.macs is not None and recipe.budget.ms_share is not None:
        what = "channels can go by multiplications or by milliseconds, not by both"
        raise RecipeError(what, where="budget.macs, budget.ms_share", fix="leave one of them")
    placed = _placed_steps(recipe)
    for gift, what in _ONCE.items():
        places = [where for where, step in placed if gives(step, gift)]
        if len(places) > 1:
            raise RecipeError(what, where=", ".join(places), fix="leave one of them")
    first = recipe.backends[0]
    found: dict[Need, bool] = {
        "images": True,
        "crops": True,
        "source": True,
        "mixing": BACKENDS.get(first).target.keeps_layers,
        "packing": bool(packed_backends(recipe)),
        "times": BACKENDS.get(first).target.keeps_layers,
    }
    there = [need for need, is_there in found.items() if is_there]
    check_steps(placed, there, {"mixing": f"the first backend is {first}"})
