"""What a budget of bytes makes of a recipe: where widths are allocated, and what can be refused before any work."""

import math

from torch import fx

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.errors import RecipeError
from qface_toolkit.evidence.allocation import packed_backends
from qface_toolkit.methods.allocate import Options
from qface_toolkit.quantize.kept import LAYERS
from qface_toolkit.quantize.scheme import EIGHT_BITS
from qface_toolkit.recipe import Budget, Recipe, Step

ALLOCATE, CALIBRATE = "allocate", "calibrate"
CHANNEL_BYTES = 2
"""What an output channel takes beside its codes at least: a byte for its scale, and one for its bias."""
FLOAT_GRAPH_BYTES, FLOAT_GRAPH_SHARE = 200_000, 1.05
"""What float.onnx has at most beside its float32 numbers."""


def allocates(recipe: Recipe) -> bool:
    """Tell whether widths are allocated, because a step says so or the budget does."""
    return recipe.budget.bytes is not None or any(step.method == ALLOCATE for step in recipe.steps)


def allocated_steps(recipe: Recipe) -> tuple[Step, ...]:
    """Return a recipe's steps, with an allocate step behind the last that sets ranges if a budget asks for one."""
    steps, wanted = recipe.steps, recipe.budget.bytes
    if wanted is not None and not any(step.method == ALLOCATE for step in steps):
        place = 1 + max((number for number, step in enumerate(steps) if step.method == CALIBRATE), default=-1)
        added = Step(method=ALLOCATE, options=Options.model_validate({"bytes": wanted}))
        steps = (*steps[:place], added, *steps[place:])
    return tuple(_steered(step, recipe.budget) for step in steps)


def _steered(step: Step, budget: Budget) -> Step:
    """Return an allocate step with what the budget wants in place of its own wish."""
    wanted = {"bytes": budget.bytes, "cosine_mean": budget.cosine_mean}
    if step.method != ALLOCATE or set(wanted.values()) == {None}:
        return step
    return Step(method=ALLOCATE, options=step.options.model_copy(update=wanted))


def check_allocation(recipe: Recipe) -> None:
    """Check that a recipe which allocates widths says what is wanted, once, and where it can be had.

    Raises:
        RecipeError: if it does not.
    """
    budget = recipe.budget
    if not allocates(recipe):
        return
    if budget.bytes is not None and budget.cosine_mean is not None:
        what = "widths can be allocated for bytes or for a cosine, not for both"
        raise RecipeError(what, where="budget.bytes, budget.cosine_mean", fix="leave one of them: the other follows")
    steps = allocated_steps(recipe)
    places = [number for number, step in enumerate(steps) if step.method == ALLOCATE]
    where = ", ".join(f"steps.{number}.{ALLOCATE}" for number in places)
    if len(places) > 1:
        raise RecipeError("widths can be allocated once", where=where, fix="leave one of the steps")
    if all(step.method != CALIBRATE for step in steps[: places[0]]):
        raise RecipeError("widths are allocated with ranges", where=where, fix="put a calibrate step before it")
    options = _options(steps)
    if options.bytes is None and options.cosine_mean is None:
        fix = "--set budget.bytes=0.2 or --set budget.cosine_mean=0.99"
        raise RecipeError("the allocate step has no budget", where=where, fix=fix)
    if options.bytes is not None and not packed_backends(recipe):
        what = "a budget of bytes needs a packed file: others hold every weight in eight bits"
        packing = [name for name, entry in BACKENDS.entries().items() if entry.packs]
        raise RecipeError(what, where="budget.bytes", fix=f"add --backend {' or '.join(sorted(packing))}")


def _options(steps: tuple[Step, ...]) -> Options:
    return next(step.options for step in steps if isinstance(step.options, Options))


def bytes_wanted(recipe: Recipe) -> float | None:
    """Return the share of float.onnx that the packed files may take, if there is a limit."""
    return _options(allocated_steps(recipe)).bytes if allocates(recipe) else None


def check_reach(recipe: Recipe, network: fx.GraphModule) -> None:
    """Refuse a budget that the codes of the narrowest weights alone exceed, by a canonical network's numbers.

    Raises:
        RecipeError: with the smallest share that is conceivable; only files that are written tell the true one.
    """
    wanted = bytes_wanted(recipe)
    if wanted is None:
        return
    narrowest = min(_options(allocated_steps(recipe)).widths)
    layers = {str(node.target): module(node) for node in network.graph.nodes if operation(node) in LAYERS}
    codes = sum(layer.weight.numel() * narrowest // EIGHT_BITS for layer in layers.values())
    least = codes + CHANNEL_BYTES * sum(len(layer.weight) for layer in layers.values())
    numbers = sum(4 * tensor.numel() for tensor in network.state_dict().values())
    share = math.floor(1000 * least / (numbers * FLOAT_GRAPH_SHARE + FLOAT_GRAPH_BYTES)) / 1000
    if wanted < share:
        raise RecipeError(
            f"a file of {wanted:g} of float.onnx is out of reach: all weights in {narrowest} bits "
            f"would take {share:.3f} without the graph, and little would be left of what the model knows",
            where="budget.bytes",
            fix=f"ask for clearly more than {share:.3f}: 0.2 costs little, 0.15 costs some",
        )
