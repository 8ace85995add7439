"""Fine-tune the weights so that the quantized network gives the float network's embeddings; no labels are needed."""

import copy
from dataclasses import replace

import torch
from pydantic import BaseModel, ConfigDict, Field

from qface_toolkit.errors import CalibrationError
from qface_toolkit.methods._base import Context
from qface_toolkit.quantize.fx import Simulation, prepare
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.training.finetune import Lessons, Schedule, fine_tune


class Options(BaseModel):
    """Options of `distill`."""

    model_config = ConfigDict(extra="forbid")

    epochs: int = Field(8, ge=1, le=1000)
    """Passes over the calibration images."""
    learning_rate: float = Field(2e-5, gt=0, le=1.0)
    """Adam's largest step; the weights start from the float network's and need to move little."""
    warmup_share: float = Field(0.1, ge=0, le=0.5)
    """Share of the steps in which the learning rate rises."""
    held_out_share: float = Field(0.125, gt=0, lt=1)
    """Share of the images that only choose the best epoch."""


class Distill:
    """Train the simulation of the context's target against the model's own float embeddings; ranges stay."""

    options = Options

    def run(self, model: QuantizedModel, options: Options, context: Context) -> QuantizedModel:
        """Return the model with other weights.

        Raises:
            CalibrationError: if no range is set yet, or there are too few images to hold any out.
        """
        if set(model.ranges) != set(model.plan.owners()):
            raise CalibrationError("distill needs ranges", fix="put a calibrate step before it")
        held_out = round(options.held_out_share * len(context.inputs))
        if not 0 < held_out < len(context.inputs):
            raise CalibrationError(
                f"{len(context.inputs)} images are too few to hold out a share of {options.held_out_share}",
                fix="raise calibration.count",
            )
        lessons = Lessons(torch.from_numpy(context.inputs), torch.from_numpy(model.embed(context.inputs)))
        simulation = prepare(model, context.target)
        schedule = Schedule(
            options.epochs, context.batch_size, options.learning_rate, options.warmup_share, context.seed
        )
        fine_tune(simulation, *lessons.split(held_out), schedule, context.progress)
        return replace(model, network=_with_weights(model, simulation))


def _with_weights(model: QuantizedModel, simulation: Simulation) -> torch.fx.GraphModule:
    """Return the model's canonical network with the simulation's weights."""
    network = copy.deepcopy(model.network)
    weights = {name: value.contiguous() for name, value in simulation.weights().items()}
    network.load_state_dict(network.state_dict() | weights, strict=True)
    return network


ENTRIES = {"distill": Distill()}
