"""Check a recipe's scheme against the network it is for, before any work starts."""

from fnmatch import fnmatchcase

from torch import fx

from qface_toolkit.canonical.graph import operation
from qface_toolkit.errors import RecipeError
from qface_toolkit.quantize.kept import LAYERS
from qface_toolkit.quantize.plan import make_plan
from qface_toolkit.quantize.scheme import Scheme
from qface_toolkit.untrusted.settings import closest


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
