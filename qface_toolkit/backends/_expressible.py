"""What a backend's form cannot hold of a scheme, found before any work: no runtime here has narrower activations."""

from torch import fx

from qface_toolkit.errors import RecipeError
from qface_toolkit.quantize.plan import make_plan
from qface_toolkit.quantize.scheme import EIGHT_BITS, Scheme

SIMULATION = "simulation"
"""The backend, and the runtime, that computes any width."""


def refusals(runtime: str, scheme: Scheme, network: fx.GraphModule) -> list[str]:
    """Return what a runtime cannot run of a scheme, a line for each tensor of a canonical network; often nothing.

    Weights of any width are small codes in whole bytes, or packed. An image always comes in eight bits.
    """
    if runtime == SIMULATION:
        return []
    _, *tensors = make_plan(network).owners()
    bits = {name: scheme.activation_bits(name) for name in tensors}
    return [f"{name}: its activations have {width} bits" for name, width in bits.items() if width < EIGHT_BITS]


def check_expressible(name: str, runtime: str, scheme: Scheme, network: fx.GraphModule) -> None:
    """Check that what a backend (or a file) of this name runs in can express a scheme.

    Raises:
        RecipeError: naming the tensors that it cannot, and what can.
    """
    found = refusals(runtime, scheme, network)
    if found:
        what = f"{name} runs activations of {EIGHT_BITS} bits and no fewer:" + "".join(f"\n  {line}" for line in found)
        fix = f"--backend {SIMULATION} computes them in torch; for integers, --set scheme.activations.bits={EIGHT_BITS}"
        raise RecipeError(what, where="scheme", fix=fix)
