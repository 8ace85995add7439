"""Fine-tune the weights so that the quantized network gives the float network's embeddings; no labels are needed."""

import torch
from pydantic import BaseModel, ConfigDict, Field

from qface_toolkit.errors import CalibrationError
from qface_toolkit.methods._base import Context, Method
from qface_toolkit.methods._services import Reference
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.simulation import prepare, with_weights
from qface_toolkit.training.finetune import Lessons, Schedule, fine_tune


class Options(BaseModel):
    """Options of `distill`."""

    model_config = ConfigDict(extra="forbid")

    epochs: int = Field(4, ge=1, le=1000)
    """Passes over the calibration images."""
    learning_rate: float = Field(3e-6, gt=0, le=1.0)
    """Adam's largest step; the weights start from the float network's and need to move little."""
    relation: float = Field(1.0, ge=0)
    """Weight of the squared difference between the batch's cosine matrices, beside 1 - cosine."""
    warmup_share: float = Field(0.1, ge=0, le=0.5)
    """Share of the steps in which the learning rate rises."""
    patience: int = Field(3, ge=1)
    """Epochs without a better state after which the rest is left."""
    held_out_share: float = Field(0.125, gt=0, lt=1)
    """Share of the images that only choose the best epoch."""


class Distill(Method):
    """Train the weights, as the context's target runs them, against the float model's embeddings."""

    options = Options
    needs = ("ranges", "images")
    asks = (Reference,)

    def run(self, model: QuantizedModel, options: Options, context: Context) -> QuantizedModel:
        """Return the model with other weights. Its ranges stay: learned ones fit these images, and clip others.

        Raises:
            CalibrationError: if there are too few images to hold any out.
        """
        held_out = round(options.held_out_share * len(context.inputs))
        if not 0 < held_out < len(context.inputs):
            raise CalibrationError(
                f"{len(context.inputs)} images are too few to hold out a share of {options.held_out_share}",
                fix="raise calibration.count",
            )
        teacher = context.service(Reference) or model
        lessons = Lessons(torch.from_numpy(context.inputs), torch.from_numpy(teacher.embed(context.inputs)))
        simulation = prepare(model, context.target)
        schedule = Schedule(
            options.epochs,
            context.batch_size,
            options.learning_rate,
            options.relation,
            options.warmup_share,
            options.patience,
            context.seed,
        )
        fine_tune(simulation, *lessons.split(held_out), schedule, context.progress)
        return with_weights(model, simulation)

    def passes(self, options: Options, images: int) -> float:
        """Return forward and backward passes over what is learned, forward ones over what is held out."""
        held_out = options.held_out_share * images
        return images + options.epochs * (3 * (images - held_out) + held_out)


ENTRIES = {"distill": Distill()}
