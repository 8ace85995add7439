"""Mend a model that agrees too little with the float model, by whatever costs the file least time; leave others alone.

What costs nothing comes first: channels are balanced anew, ranges set and biases corrected. Then the fewest layers are
kept in float that reach the floor, those first that gain most for their time (see mixed), as long as nearly all
multiplications stay in integers: a file that is float in most places is no int8 file.
"""

from typing import cast

from pydantic import BaseModel, ConfigDict, Field

from qface_toolkit.methods._base import Context, Method
from qface_toolkit.methods._held_out import HeldOut, held_out_count
from qface_toolkit.methods._services import Forms, Reference
from qface_toolkit.methods.calibrate import ENTRIES as CALIBRATE
from qface_toolkit.methods.correct_bias import ENTRIES as CORRECT_BIAS
from qface_toolkit.methods.equalize import ENTRIES as EQUALIZE
from qface_toolkit.methods.mixed import ENTRIES as MIXED
from qface_toolkit.quantize.model import QuantizedModel

_FREE: tuple[tuple[Method, dict[str, str]], ...] = (
    (EQUALIZE["equalize"], {}),
    (CALIBRATE["calibrate"], {"observer": "minmax"}),
    (CORRECT_BIAS["correct_bias"], {}),
)
"""The steps that cost the file no time."""
MARGIN = 0.9
"""Share of the loss at the floor that is aimed at: other images lose a little more."""


class Options(BaseModel):
    """Options of `mend`."""

    model_config = ConfigDict(extra="forbid")

    cosine_mean: float = Field(0.98, gt=0, lt=1, strict=True)
    """The mean cosine to the float model below which a model is damaged, measured as `mixed` measures it."""
    float_share: float = Field(0.1, gt=0, le=1)
    """Share of the multiplications that layers in float may take, at most."""


class Mend(Method):
    """Look at the last calibration images, and do nothing if the model is fine.

    Ranges have seen these images, and some steps choose by them, so a little more than the floor is wanted there.
    """

    options = Options
    needs = ("mixing", "ranges", "images")
    gives = ("mended",)
    asks = (Reference, Forms)

    def run(self, model: QuantizedModel, options: Options, context: Context) -> QuantizedModel:
        """Return the model, or one that comes closer; whether it is close enough is for others to judge."""
        held_out, wanted = HeldOut(model, context), 1 - MARGIN * (1 - options.cosine_mean)
        found = held_out.cautious_cosine(model)
        context.progress(1, 3)
        if found < wanted:
            balanced = _balanced(model, context)
            if held_out.cautious_cosine(balanced) > found:
                model = balanced
            context.progress(2, 3)
            mixed = MIXED["mixed"]
            model = mixed.run(model, mixed.options(cosine_mean=wanted, float_share=options.float_share), context)
        context.progress(3, 3)
        return model

    def passes(self, options: Options, images: int) -> float:
        """Return those of a model that is fine; mending takes as long as `equalize`, `calibrate` and `mixed`."""
        return 2 * held_out_count(images)


def _balanced(model: QuantizedModel, context: Context) -> QuantizedModel:
    """Return the model after the steps that cost no time, whose bars nobody sees."""
    quiet = Context(
        context.inputs, context.target, context.seed, context.batch_size, lambda done, total: None, context.services
    )
    for method, options in _FREE:
        model = cast(QuantizedModel, method.run(model, method.options(**options), quiet))
    return model


ENTRIES = {"mend": Mend()}
