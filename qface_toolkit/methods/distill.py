"""Train the weights so that the network gives the embeddings of the float model as it came; no labels are needed.

It is the training of `qface train` (see training.course), with the calibration images for data and the float model for
its teacher: losses, augmentations, schedules and what is kept of them are the same. Where ranges are set, what learns
is the network as the context's target runs it; before that it is the float network, which a step before may have
narrowed.
"""

from pydantic import BaseModel, ConfigDict, Field

from qface_toolkit.errors import CalibrationError
from qface_toolkit.methods._base import Context, Method
from qface_toolkit.methods._services import Crops, Reference, Shelf
from qface_toolkit.methods._teaching import Teaching
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.training.losses import DistanceName
from qface_toolkit.training.recipe import Augment, Losses, Optimizer, TrainingRecipe, Weight


class Loss(BaseModel):
    """What the loss is a sum of; see the recipes of `qface train`, and `hints`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kd: Weight = 1.0
    """Weight of the distance between embeddings."""
    distance: DistanceName = "cosine"
    relation: Weight = 1.0
    """Weight of the squared difference between the batch's cosine matrices."""
    hints: Weight = 0.0
    """Weight of what layers read, beside what the float model's layers of those names read of the same channels."""


class Options(BaseModel):
    """Options of `distill`; those of `optimizer` and `augment` are those of training recipes."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    epochs: int = Field(4, ge=1, le=1000)
    """Passes over the calibration images."""
    batch_size: int | None = Field(None, ge=2)
    """Images of a step; those of the calibration set's batches if nothing is said."""
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer(name="adamw", learning_rate=3e-6, weight_decay=0.0, warmup_epochs=0.4)
    """The weights of a quantized network start from the float one's and need to move little; others need more."""
    augment: Augment = Augment(mirror=0.0)
    average: float = Field(0.0, ge=0, lt=1)
    """Decay of a running average of the weights, which is then what is kept."""
    patience: int | None = Field(3, ge=1)
    """Epochs without a better state after which the rest is left; the best is kept. Without it, the last one is."""
    held_out_share: float = Field(0.125, gt=0, lt=1)
    """Share of the images that only say how good an epoch was."""


class Distill(Method):
    """Train the weights against the float model's embeddings."""

    options = Options
    needs = ("images", "crops")
    asks = (Reference, Crops, Shelf)

    def run(self, model: QuantizedModel, options: Options, context: Context) -> QuantizedModel:
        """Return the model with other weights. Its ranges stay: learned ones fit these images, and clip others.

        Raises:
            CalibrationError: if there are too few images to hold any out.
            TrainingError: if the loss is not finite any more.
        """
        images = len(context.inputs)
        held_out = round(options.held_out_share * images)
        if not 0 < held_out < images - 1:
            raise CalibrationError(
                f"{images} images are too few to hold out a share of {options.held_out_share}",
                fix="raise calibration.count",
            )
        batch = min(options.batch_size or context.batch_size, images - held_out)
        return Teaching(model, _recipe(options, batch), context, held_out).run(options.loss.hints)

    def passes(self, options: Options, images: int) -> float:
        """Return forward and backward passes over what is learned, the teacher's, and those of what is held out."""
        held_out = options.held_out_share * images
        return options.epochs * (4 * (images - held_out) + held_out)


def _recipe(options: Options, batch_size: int) -> TrainingRecipe:
    """Return the training that these options are."""
    losses = Losses(kd=options.loss.kd, distance=options.loss.distance, relation=options.loss.relation, classes=0.0)
    return TrainingRecipe(
        version=1,
        epochs=options.epochs,
        batch_size=batch_size,
        loss=losses,
        optimizer=options.optimizer,
        augment=options.augment,
        average=options.average,
        patience=options.patience,
        snapshots=False,
    )


ENTRIES = {"distill": Distill()}
