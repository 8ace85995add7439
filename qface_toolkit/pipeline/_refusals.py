"""What a recipe asks for and cannot get, found before any work starts."""

from fnmatch import fnmatchcase

from torch import fx

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.graph import operation
from qface_toolkit.errors import RecipeError
from qface_toolkit.methods import gives
from qface_toolkit.quantize.plan import LAYERS, make_plan
from qface_toolkit.quantize.scheme import Scheme
from qface_toolkit.recipe import Recipe
from qface_toolkit.untrusted.settings import closest


def check_simulation(recipe: Recipe) -> None:
    """Check that a recipe that simulates asks for nothing that a simulation cannot be.

    Raises:
        RecipeError: naming what it asks for.
    """
    name = next((step.method for step in recipe.steps if gives(step, "simulation")), None)
    if name is None:
        return
    if len(recipe.steps) > 1:
        raise RecipeError(f"{name} cannot be one step among others", where="steps", fix="leave the others out")
    others = [backend for backend in recipe.backends if not BACKENDS.get(backend).runtime.simulates]
    if others:
        what = f"{name} leaves tensors in float that no integer file can, so nothing can be written for {others[0]}"
        raise RecipeError(what, where="backends", fix="name simulation alone, or take another recipe, such as int8")
    if recipe.scheme != type(recipe.scheme)():
        fix = "leave scheme out, and set the widths in the step: weight_bits and activation_bits"
        raise RecipeError(f"{name} has widths of its own", where="scheme", fix=fix)
    wanted = {"budget": recipe.budget.model_dump(exclude_none=True), "export.input": recipe.export.input != "float"}
    for key in (key for key, asked in wanted.items() if asked):
        raise RecipeError(f"{name} makes a simulation, which has no {key}", where=key, fix=f"leave {key} out")


def check_scheme(scheme: Scheme, canonical: fx.GraphModule) -> None:
    """Check that every entry for some layers is about layers, or tensors, that the network has.

    Raises:
        RecipeError: naming the entries that match nothing.
    """
    layers = [node.name for node in canonical.graph.nodes if operation(node) in LAYERS]
    _, *tensors = make_plan(canonical).owners()  # the image has its width
    idle = []
    for number, entry in enumerate(scheme.layers):
        for kind, bits, names in (("weights", entry.weights, layers), ("activations", entry.activations, tensors)):
            if bits is not None and not any(fnmatchcase(name, entry.match) for name in names):
                what = f"scheme.layers.{number}: no {kind} belong to {entry.match!r}"
                idle.append(what + closest(entry.match, names))
    if idle:
        listed = "".join(f"\n  {mistake}" for mistake in idle)
        raise RecipeError(f"the scheme names what the network has not:{listed}", fix=f"its layers: {_some(layers)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
