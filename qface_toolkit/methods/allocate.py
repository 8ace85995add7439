"""Give each layer's weights a width of their own: the least loss within a file's bytes, or the fewest bytes for a loss.

Losses of layers alone nearly add up as long as the embedding stays close, so widths are chosen for their sum, exactly
or within a known gap (analysis.allocation), and what was chosen is then simulated as a whole. First and last layers are
layers like all others: what they lose is measured, too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import fx

from qface_toolkit.analysis.allocation import Allocation, Choice, OutOfReach, fewest_bytes, least_loss
from qface_toolkit.analysis.widths import (
    Losses,
    measure_widths,
    predict_widths,
    rounded_layers,
    weights_loss,
    widths_effort,
)
from qface_toolkit.canonical.graph import module
from qface_toolkit.errors import RecipeError
from qface_toolkit.methods._artifact_size import ArtifactSize, least_share
from qface_toolkit.methods._base import Context, Method, Need
from qface_toolkit.methods._held_out import HeldOut, held_out_count
from qface_toolkit.methods._services import FileSizes, Record, Reference
from qface_toolkit.quantize.image_input import input_convolution, takes_pixels
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.scheme import EIGHT_BITS, WEIGHT_BITS

MEASURING_BUDGET, FEWEST_IMAGES = 1.2e12, 4
"""Multiply-adds to measure losses with; a network too large for so many images has them predicted."""
PREDICTION_IMAGES = 64
MARGIN, MARGIN_BITS = 0.003, 5
"""What is left for what later steps may add: a share of the budget, or so many bits a channel, for wider biases."""
TRIES, CLOSE = 6, 0.001
"""Files written to come this close to the budget, as a share of it."""
HALVINGS = 9
PASSES_OF_A_WIDTH = 25
"""Roughly what it takes to measure a network of some fifty layers at one width on one image."""


class Options(BaseModel):
    """Options of `allocate`: `bytes` or `cosine_mean` says what is wanted, here or in the recipe's budget."""

    model_config = ConfigDict(extra="forbid")

    widths: tuple[Annotated[int, Field(ge=WEIGHT_BITS[0], le=WEIGHT_BITS[-1])], ...] = Field(
        tuple(WEIGHT_BITS), min_length=1
    )
    """Widths that weights may have, in bits. Layers that the recipe's scheme names keep the width that it says."""
    bytes: float | None = Field(None, gt=0, lt=1, strict=True)
    """The least loss for a packed file of this share of float.onnx."""
    cosine_mean: float | None = Field(None, gt=0, lt=1, strict=True)
    """The fewest bytes for this mean cosine to the float model, simulated right after this step.

    Measured on the last eighth of the images, 64 at most, less its standard error. Later steps mostly gain.
    """
    images: int = Field(16, ge=1)
    """Calibration images to measure each layer's loss on, at most: fewer where the network is large."""
    losses: Literal["auto", "measured", "predicted"] = "auto"
    """measured: by running what is left of the network. predicted: from Fisher information, for large networks."""

    @field_validator("widths")
    @classmethod
    def _in_order(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(widths)))

    @model_validator(mode="after")
    def _one_wish(self) -> "Options":
        if self.bytes is not None and self.cosine_mean is not None:
            raise ValueError("say either bytes or cosine_mean: the other follows")
        return self


class Allocate(Method):
    """Measure what every layer loses at every width, and choose."""

    options = Options
    needs = ("ranges", "images")
    gives = ("widths",)
    asks = (Reference, FileSizes, Record)

    def needed(self, options: Options) -> tuple[Need, ...]:
        """Return what every allocation needs, and something to have a budget of."""
        if options.bytes is not None:
            return (*self.needs, "packing")
        return self.needs if options.cosine_mean is not None else (*self.needs, "budget")

    def check(self, options: Options, network: fx.GraphModule) -> None:
        """Refuse a budget that the codes of the narrowest weights alone exceed.

        Raises:
            RecipeError: with the smallest share that is conceivable; only files that are written tell the true one.
        """
        narrowest = min(options.widths)
        share = least_share(network, narrowest)
        if options.bytes is not None and options.bytes < share:
            raise RecipeError(
                f"a file of {options.bytes:g} of float.onnx is out of reach: all weights in {narrowest} bits "
                f"would take {share:.3f} without the graph, and little would be left of what the model knows",
                where="budget.bytes",
                fix=f"ask for clearly more than {share:.3f}: 0.2 costs little, 0.15 costs some",
            )

    def run(self, model: QuantizedModel, options: Options, context: Context) -> QuantizedModel:
        """Return the model with a width for each layer.

        Raises:
            RecipeError: if what is wanted is out of reach: with what is within reach.
        """
        if not rounded_layers(model):
            what = "every layer is kept in float, so there are no widths to allocate"
            raise RecipeError(what, fix="put the mixed step behind allocate, or leave it out")
        return _Allocating(model, options, context).run()

    def passes(self, options: Options, images: int) -> float:
        """Return a rough figure: how long rounding and writing files takes is not counted."""
        tried = 2 if options.cosine_mean is None else 2 + HALVINGS
        losses = PASSES_OF_A_WIDTH * len(options.widths) * min(options.images, images)
        return losses + tried * held_out_count(images)


@dataclass(frozen=True)
class _Found:
    """The losses of layers, who says so, and on how many images."""

    losses: Losses
    by: Literal["measured", "predicted"]
    images: int


class _Allocating:
    """The choices of each layer, and what they make of the file and the embedding."""

    def __init__(self, model: QuantizedModel, options: Options, context: Context) -> None:
        self.model, self.options, self.context = model, options, context
        self.held_out = HeldOut(model, context)
        self.names = [node.name for node in rounded_layers(model)]
        sizes = context.service(FileSizes)
        self.size = ArtifactSize(model, options.widths, sizes.of if sizes else None)
        self.float_bytes = sizes.float_bytes if sizes else 0
        self.spare = sum(len(module(node).weight) for node in rounded_layers(model)) * MARGIN_BITS // EIGHT_BITS
        self.found = self._found()
        self.choices = [self._choices(name) for name in self.names]
        self.cosines: dict[tuple[int, ...], float] = {}

    def _found(self) -> _Found:
        """Return the losses of all layers at all widths."""
        model, context, widths = self.model, self.context, self._widths()
        effort = widths_effort(model, context.target, widths)
        count = min(self.options.images, int(MEASURING_BUDGET // effort), len(context.inputs))
        few = count < min(FEWEST_IMAGES, self.options.images, len(context.inputs))
        if self.options.losses == "predicted" or (few and self.options.losses == "auto"):
            seen = context.inputs[:PREDICTION_IMAGES]
            draw = {"seed": context.seed, "batch_size": context.batch_size}
            return _Found(predict_widths(model, context.target, seen, widths, **draw), "predicted", len(seen))
        seen = context.inputs[: max(count, 1)]
        return _Found(measure_widths(model, context.target, seen, widths, context.progress), "measured", len(seen))

    def _widths(self) -> tuple[int, ...]:
        named = (one.weights for one in self.model.scheme.layers if one.weights is not None)
        pixels = (EIGHT_BITS,) if takes_pixels(self.model, self.context.target) else ()
        return tuple(sorted({*self.options.widths, *named, *pixels}))

    def _choices(self, name: str) -> list[Choice]:
        model = self.model
        widths = self.options.widths
        if any(one.weights is not None and fnmatchcase(name, one.match) for one in model.scheme.layers):
            widths = (model.scheme.weight_bits(name),)
        if takes_pixels(model, self.context.target) and input_convolution(model.network).name == name:
            widths = (EIGHT_BITS,)
        losses = self.found.losses[name]
        return [Choice(width, self.size.of_layer(name, width), losses[width]) for width in widths]

    def run(self) -> QuantizedModel:
        """Return the model with the widths that were chosen, and tell about them."""
        bytes_wanted, cosine_wanted = self.options.bytes, self.options.cosine_mean
        if bytes_wanted is not None:
            budget = bytes_wanted * self.float_bytes
            chosen = self._within(math.floor(min(budget * (1 - MARGIN), budget - self.spare)))
        else:
            chosen = self._reaching(cosine_wanted or 0.0)
        if (record := self.context.service(Record)) is not None:
            record.keep("widths", self._told(chosen))
        return self._model(chosen)

    def _within(self, limit: int) -> Allocation:
        """Return the allocation of least loss whose file takes no more bytes."""
        best: Allocation | None = None
        budget = limit
        for _ in range(TRIES):
            try:
                found = least_loss(self.choices, budget)
            except OutOfReach:
                break
            left = limit - self.size.of(self._bits(found))
            if left >= 0 and (best is None or found.loss < best.loss):
                best = found
            if 0 <= left <= CLOSE * limit:
                break
            # What does not fit may have been estimated far below the budget: less than that estimate is what helps.
            budget = left + (budget if left > 0 else min(budget, found.size_bytes))
        return best or self._smallest(limit)

    def _smallest(self, limit: int) -> Allocation:
        """Return the narrowest allocation, if its file takes no more bytes: sizes of layers are estimates."""
        found = least_loss(self.choices, sum(min(map(_bytes, one)) for one in self.choices))
        if self.size.of(self._bits(found)) > limit:
            raise self._too_small(found)
        return found

    def _too_small(self, closest: Allocation) -> RecipeError:
        size = self.size.of(self._bits(closest))
        share = math.ceil(1000 * max(size / (1 - MARGIN), size + self.spare) / self.float_bytes) / 1000
        return RecipeError(
            f"a file of {self.options.bytes} of float.onnx is out of reach: the smallest is {share:.3f} "
            f"({size:,} bytes), whose mean cosine to the float model would be {self._cosine(closest):.3f}",
            where="budget.bytes",
            fix=f"ask for {share:.3f} or more, or allow narrower weights",
        )

    def _reaching(self, wanted: float) -> Allocation:
        """Return the allocation of fewest bytes that reaches a mean cosine, simulated as a whole."""
        least = math.fsum(min(choice.loss for choice in one) for one in self.choices)
        most = math.fsum(max(choice.loss for choice in one) for one in self.choices)
        best = fewest_bytes(self.choices, least)
        if self._cosine(best) < wanted:
            raise self._too_much(best)
        low, high = math.log(max(least, 1e-9)), math.log(max(most, 1e-9))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            found = fewest_bytes(self.choices, max(math.exp(middle), least))
            reached = self._cosine(found) >= wanted
            best = found if reached and found.size_bytes <= best.size_bytes else best
            low, high = (middle, high) if reached else (low, middle)
        return best

    def _too_much(self, closest: Allocation) -> RecipeError:
        reached = self._cosine(closest)
        return RecipeError(
            f"a mean cosine of {self.options.cosine_mean} is out of reach: the widest weights allowed reach "
            f"{math.floor(reached * 1e4) / 1e4:.4f}, less the standard error",
            where="budget.cosine_mean",
            fix=f"ask for {math.floor(reached * 1e3) / 1e3:.3f} or less, or take the allocate step out: "
            "layers are then kept in float",
        )

    def _bits(self, chosen: Allocation) -> Mapping[str, int]:
        return {name: choice.bits for name, choice in zip(self.names, chosen.choices, strict=True)}

    def _model(self, chosen: Allocation) -> QuantizedModel:
        return self.model.with_weight_bits(self._bits(chosen))

    def _cosine(self, chosen: Allocation) -> float:
        """Return the mean cosine to the float model on the images held out, less its standard error."""
        key = tuple(choice.bits for choice in chosen.choices)
        if key not in self.cosines:
            self.cosines[key] = self.held_out.cautious_cosine(self._model(chosen))
        return self.cosines[key]

    def _told(self, chosen: Allocation) -> dict[str, Any]:
        """Return what the report says about an allocation, as plain values."""
        layers = zip(self.names, chosen.choices, strict=True)
        return {
            "bytes_wanted": self.options.bytes,
            "cosine_mean_wanted": self.options.cosine_mean,
            "losses": self.found.by,
            "images": self.found.images,
            "layers": [
                {"name": name, "weights": self.size.weights[name], "bits": one.bits, "loss": one.loss}
                for name, one in layers
            ],
            "bound": chosen.bound,
            "loss_predicted": chosen.loss,
            "loss_measured": weights_loss(self._model(chosen), self.context.target, self.held_out.images),
            "cosine_mean": float(self.held_out.cosines(self._model(chosen)).mean()),
            "held_out": len(self.held_out.images),
            "size_bytes": self.size.of(self._bits(chosen)),
            "estimated_bytes": chosen.size_bytes,
        }


def _bytes(choice: Choice) -> int:
    return choice.size_bytes


ENTRIES = {"allocate": Allocate()}
