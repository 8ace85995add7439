"""Move biases so that every channel keeps its mean when it is quantized; nothing is trained.

Rounded weights shift the mean of what a layer computes by their mean error times the mean of its inputs, which after
ReLU is far from zero, and clipped or rounded inputs add to it (arXiv 1906.04721, section 4.2, where the shift is also
derived from BatchNorm statistics; here it is measured, so that any network will do).
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import fx

from qface_toolkit.errors import CalibrationError
from qface_toolkit.methods._base import Context
from qface_toolkit.quantize.channels import LAYERS
from qface_toolkit.quantize.fx import prepare
from qface_toolkit.quantize.graph import inputs, operation
from qface_toolkit.quantize.model import QuantizedModel


class Options(BaseModel):
    """Options of `correct_bias`."""

    model_config = ConfigDict(extra="forbid")

    images: int = Field(128, ge=1)
    """Calibration images whose means are compared, the first ones."""


class CorrectBias:
    """Go through the layers from first to last and correct each for what all before it left."""

    options = Options

    def run(self, model: QuantizedModel, options: Options, context: Context) -> QuantizedModel:
        """Return the model with other biases.

        Raises:
            CalibrationError: if no range is set yet, or there are no images.
        """
        if set(model.ranges) != set(model.plan.owners()):
            raise CalibrationError("correct_bias needs ranges", fix="put a calibrate step before it")
        if len(context.inputs) == 0:
            raise CalibrationError("there are no calibration images", fix="ask for at least one: calibration.count")
        images = torch.from_numpy(context.inputs[: options.images])
        expected = _FloatMeans(model.network)
        corrected = copy.deepcopy(model.network)
        correcting = _Correcting(prepare(model, context.target).prepared, expected.found, corrected)
        with torch.no_grad():
            expected.run(images)
            context.progress(1, 2)
            correcting.run(images)
            context.progress(2, 2)
        return replace(model, network=corrected)

    def passes(self, options: Options, images: int) -> float:
        """Return one pass in float and two simulated ones: a layer is run again with its new bias."""
        return 3 * min(options.images, images)


class _FloatMeans(fx.Interpreter):
    """Runs a network and keeps the mean of each channel of every layer, behind its ReLU where it has one.

    torch.ao makes one module of a layer and its ReLU.
    """

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.found: dict[str, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - as torch declares it
        """Run a node; a ReLU's mean takes the place of its layer's."""
        made = super().run_node(n)
        layer = inputs(n)[0] if operation(n) == "relu" else n
        if operation(layer) in LAYERS:
            self.found[str(layer.target)] = _channel_means(made)
        return made


class _Correcting(fx.Interpreter):
    """Runs a simulation, brings every layer's channels to their expected means and notes by how much in biases."""

    def __init__(
        self, simulated: fx.GraphModule, expected: Mapping[str, torch.Tensor], corrected: fx.GraphModule
    ) -> None:
        super().__init__(simulated)
        self.networks = (simulated, corrected)
        self.expected = expected

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - as torch declares it
        """Run a node, and a layer again if its bias has moved."""
        made = super().run_node(n)
        name = str(n.target)
        if n.op != "call_module" or name not in self.expected:
            return made
        shift = self.expected[name] - _channel_means(made)
        for network in self.networks:
            layer: Any = network.get_submodule(name)
            layer.bias.data += shift
        return super().run_node(n)


def _channel_means(made: torch.Tensor) -> torch.Tensor:
    return made.mean(dim=[axis for axis in range(made.dim()) if axis != 1])


ENTRIES = {"correct_bias": CorrectBias()}
