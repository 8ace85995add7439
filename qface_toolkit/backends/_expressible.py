"""What a runtime without narrow activations cannot hold of a scheme, found before any work."""

from torch import fx

from qface_toolkit.errors import RecipeError
from qface_toolkit.quantize.plan import make_plan
from qface_toolkit.quantize.scheme import EIGHT_BITS, Scheme


def refusals(scheme: Scheme, network: fx.GraphModule) -> list[str]:
    """Return what cannot be held of a scheme, a line for each tensor of a canonical network; often nothing.

    Weights of any width are small codes in whole bytes, or packed. An image always comes in eight bits.
    """
    _, *tensors = make_plan(network).owners()
    bits = {name: scheme.activation_bits(name) for name in tensors}
    return [f"{name}: its activations have {width} bits" for name, width in bits.items() if width < EIGHT_BITS]


def check_expressible(called: str, scheme: Scheme, network: fx.GraphModule) -> None:
    """Check that a backend, or a file, called so can hold a scheme in eight bits.

    Raises:
        RecipeError: naming the tensors that it cannot, and what can.
    """
    found = refusals(scheme, network)
    if found:
        what = f"{called} runs activations of {EIGHT_BITS} bits and no fewer:" + "".join(
            f"\n  {line}" for line in found
        )
        fix = f"--backend simulation computes them in torch; for integers, --set scheme.activations.bits={EIGHT_BITS}"
        raise RecipeError(what, where="scheme", fix=fix)
