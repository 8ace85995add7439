"""What each quantizer costs, as figures: the block of report.json and the JSON of `qface inspect --sensitivity`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from qface_toolkit.report.figures import Block

if TYPE_CHECKING:
    from qface_toolkit.analysis.sensitivity import Sensitivity

Loss = Annotated[float, Field(ge=0, le=2)]
"""1 - cosine."""


class QuantizerFigures(Block):
    """The effect of one quantizer, of a tensor or of a layer's weights, on the embedding's mean cosine to float.

    `loss_alone` is what is lost with this one alone on, `gain_left_out` what is gained with this one alone off.
    """

    kind: Literal["activation", "weights"]
    name: str
    loss_alone: Loss
    gain_left_out: Annotated[float, Field(ge=-2, le=2)]


class SensitivityBlock(Block):
    """The loss of one simulation with everything on, and of its quantizers, in order of execution.

    A gain far below the loss with everything on is noise: any change flips roundings of other tensors.
    """

    simulation: str
    images: Annotated[int, Field(gt=0)]
    loss: Loss
    activations_loss: Loss
    weights_loss: Loss
    quantizers: tuple[QuantizerFigures, ...]

    def by_loss(self) -> tuple[QuantizerFigures, ...]:
        """Return the quantizers, the one that loses most alone first."""
        return tuple(sorted(self.quantizers, key=lambda one: -one.loss_alone))


def sensitivity_figures(found: "Sensitivity") -> SensitivityBlock:
    """Return what was measured."""
    return SensitivityBlock(
        simulation=found.target,
        images=found.images,
        loss=found.loss,
        activations_loss=found.activations_loss,
        weights_loss=found.weights_loss,
        quantizers=tuple(QuantizerFigures(**asdict(effect)) for effect in found.quantizers),
    )
