"""Move biases so that every channel keeps its mean when it is quantized; nothing is trained.

Rounded weights shift the mean of what a layer computes by their mean error times the mean of its inputs, which after
ReLU is far from zero, and clipped or rounded inputs add to it (arXiv 1906.04721, section 4.2, where the shift is also
derived from BatchNorm statistics; here it is measured, so that any network will do).
"""

import copy
from dataclasses import replace

import torch
from pydantic import BaseModel, ConfigDict, Field

from qface_toolkit.methods._base import Context, Method
from qface_toolkit.methods._means import Correcting, FloatMeans
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.simulation import prepare


class Options(BaseModel):
    """Options of `correct_bias`."""

    model_config = ConfigDict(extra="forbid")

    images: int = Field(128, ge=1)
    """Calibration images whose means are compared, the first ones."""


class CorrectBias(Method):
    """Go through the layers from first to last and correct each for what all before it left."""

    options = Options
    needs = ("ranges", "images")

    def run(self, model: QuantizedModel, options: Options, context: Context) -> QuantizedModel:
        """Return the model with other biases."""
        images = torch.from_numpy(context.inputs[: options.images])
        expected = FloatMeans(model.network)
        corrected = copy.deepcopy(model.network)
        correcting = Correcting(prepare(model, context.target).prepared, expected.found, corrected)
        with torch.no_grad():
            expected.run(images)
            context.progress(1, 2)
            correcting.run(images)
            context.progress(2, 2)
        return replace(model, network=corrected)

    def passes(self, options: Options, images: int) -> float:
        """Return one pass in float and two simulated ones: a layer is run again with its new bias."""
        return 3 * min(options.images, images)


ENTRIES = {"correct_bias": CorrectBias()}
