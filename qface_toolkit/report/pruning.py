"""The channels that a step took out: how many are left of each layer, round by round what was lost and won back."""

from functools import partial
from typing import Annotated, Literal

from pydantic import Field, model_validator

from qface_toolkit.report import plots
from qface_toolkit.report.figures import Block, Cosine, clean, percent
from qface_toolkit.report.page import Plot, Section, Table

ROUND_HEADINGS = ("round", "left", "predicted loss", "cosine, taken out", "cosine, solved anew")
CHANNEL_HEADINGS = ("layer", "channels", "left", "share")
Share = Annotated[float, Field(gt=0, le=1)]
Some = Annotated[int, Field(gt=0)]
_COUNTED = {"macs": "multiplications", "ms_share": "predicted milliseconds", "bytes": "weights"}


class PruningRound(Block):
    """What is left after a round, the loss in cosine that was predicted of it, and held-out mean cosines to float."""

    share: Share
    predicted_loss: Annotated[float, Field(ge=0)]
    cosine_taken: Cosine
    cosine_repaired: Cosine


class LayerChannels(Block):
    """How many channels a layer made, and makes."""

    name: str
    before: Some
    after: Some


class PruningBlock(Block):
    """A whole pruning: `wanted` is the share of what is counted (`by`) that was to be left, `macs_share` what is."""

    by: Literal["macs", "ms_share", "bytes"]
    wanted: Share
    share: Share
    macs_share: Share
    rounds: tuple[PruningRound, ...] = Field(min_length=1)
    layers: tuple[LayerChannels, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _none_grew(self) -> "PruningBlock":
        if any(layer.after > layer.before for layer in self.layers):
            raise ValueError("a layer has more channels than before")
        return self


def pruning_said(block: PruningBlock) -> str:
    """Return in two sentences what was taken and what the rest made up for."""
    taken = sum(layer.before - layer.after for layer in block.layers)
    whole, last = sum(layer.before for layer in block.layers), block.rounds[-1]
    also = "" if block.by == "macs" else f" ({percent(block.macs_share)} of the multiplications)"
    return (
        f"{percent(block.share)} of the {_COUNTED[block.by]} are left{also}, {percent(block.wanted)} were wanted: "
        f"{taken:,} of {whole:,} channels went. Before any training, the rest had a mean cosine of "
        f"{last.cosine_repaired:.3f} to the float model."
    )


def pruning_section(block: PruningBlock) -> Section:
    """Return what each round took and gave, and the channels of every layer, as a picture and a table."""
    rounds = [
        [
            str(number + 1),
            percent(one.share),
            f"{one.predicted_loss:.3f}",
            f"{one.cosine_taken:.3f}",
            f"{one.cosine_repaired:.3f}",
        ]
        for number, one in enumerate(block.rounds)
    ]
    channels = [
        [clean(one.name, 40), str(one.before), str(one.after), percent(one.after / one.before)] for one in block.layers
    ]
    counts = [(one.before, one.after) for one in block.layers]
    caption = "Channels of each layer, from the image on: what there was, and what is left"
    plot = Plot("plot-channels", caption, "The table has the counts.", partial(plots.channels_picture, counts))
    tables = (Table("What each round took and gave", ROUND_HEADINGS, rounds),)
    layers = Table("Channels of each layer", CHANNEL_HEADINGS, channels)
    return Section("pruning", "Pruning: the channels that are left", (pruning_said(block),), (*tables, plot, layers))
