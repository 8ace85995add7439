"""What each quantizer costs: the block of report.json and of `qface inspect --sensitivity`, its words and its table."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from qface_toolkit.report import plots
from qface_toolkit.report.figures import Block, clean, loss
from qface_toolkit.report.page import Plot, Section, Table

if TYPE_CHECKING:
    from qface_toolkit.analysis.sensitivity import Sensitivity

PLOT = "sensitivity.svg"
HEADINGS = ("quantizer", "of", "loss alone", "gain left out")
SHOWN = 20
LONGEST_NAME = 40
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


def sensitivity_said(block: SensitivityBlock) -> str:
    """Return in two sentences what is lost, and to what."""
    images = f"mean of {block.images} held-out drawings"
    what = f"1 - cosine to the same weights unrounded, {images}, in the {clean(block.simulation)} simulation"
    parts = f"{loss(block.activations_loss)} by activations alone and {loss(block.weights_loss)} by weights alone"
    worst = block.by_loss()[:1]
    most = f" Most is lost by {_named(worst[0])}: {loss(worst[0].loss_alone)} alone." if worst else ""
    return f"Rounding loses {loss(block.loss)} ({what}): {parts}.{most}"


def _named(one: QuantizerFigures) -> str:
    return clean(one.name, LONGEST_NAME) if one.kind == "activation" else f"the weights of {clean(one.name)}"


def worst_quantizers(block: SensitivityBlock, most: int) -> list[list[str]]:
    """Return the rows of a table (see HEADINGS) of the quantizers that lose most alone."""
    return [
        [clean(one.name, LONGEST_NAME), one.kind, loss(one.loss_alone), f"{one.gain_left_out:+.5f}"]
        for one in block.by_loss()[:most]
    ]


def sensitivity_section(block: SensitivityBlock) -> Section:
    """Return what quantization costs, quantizer by quantizer."""
    what = "What each quantizer loses alone, and what leaving it out gains"
    draw = partial(plots.quantizers_picture, _effects(block))
    plot = Plot("plot-sensitivity", what, "The table has the worst ones.", draw, PLOT, "loss of each quantizer")
    rows = worst_quantizers(block, SHOWN)
    caption = f"The worst {len(rows)} of {len(block.quantizers)} quantizers; report.json has them all"
    blocks = (plot, Table(caption, HEADINGS, rows, texts=2))
    return Section("sensitivity", "Where the loss is", (sensitivity_said(block),), blocks)


def sensitivity_plot(block: SensitivityBlock, kind: str = "svg") -> bytes:
    """Return the picture that lies beside a report: every quantizer, with what the figures were measured on."""
    told = f"{clean(block.simulation)} simulation, {block.images} images, everything on: {loss(block.loss)}"
    return plots.quantizers_picture(_effects(block), f"What each quantizer loses ({told})", (9, 5), kind)


def _effects(block: SensitivityBlock) -> list[plots.Effect]:
    return [plots.Effect(one.kind, one.name, one.loss_alone, one.gain_left_out) for one in block.quantizers]
