"""What each layer loses at each width of its weights: measured, or predicted from the Fisher information.

Measured means that this layer's weights alone are rounded and the rest of the network is run from there on, so that a
layer is tried at all its widths at one place of a single walk. Where that takes too long, the squared rounding errors
are weighed by how much the embedding feels of each weight; that knows nothing of errors too large to be linear.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from qface_toolkit.analysis.sensitivity import Floats, Progress
from qface_toolkit.analysis.statistics import measure_statistics
from qface_toolkit.analysis.walk import BATCH, Walk, row_cosines
from qface_toolkit.canonical.graph import operation
from qface_toolkit.errors import MeasurementError
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.quantize.quantizers import ActivationQuantizer, WeightQuantizer
from qface_toolkit.quantize.scheme import EIGHT_BITS
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import Target
from qface_toolkit.quantize.weights import Width, largest_codes

Losses = Mapping[str, Mapping[int, float]]
"""Name of a layer's node -> width -> 1 - cosine to float, as mean over images."""


def rounded_layers(model: QuantizedModel) -> list[fx.Node]:
    """Return the nodes whose weights have a width, in order; layers that are kept in float have none."""
    nodes: list[fx.Node] = list(model.network.graph.nodes)
    return [node for node in nodes if operation(node) in LAYERS and node.name not in model.plan.kept]


def measure_widths(
    model: QuantizedModel,
    target: Target,
    inputs: Floats,
    widths: Sequence[int],
    progress: Progress = lambda done, total: None,
) -> Losses:
    """Measure what each layer loses with its own weights alone rounded, on preprocessed images [N, C, height, width].

    Raises:
        MeasurementError: if the network's embeddings are not finite.
    """
    network = _Rounded(model, target, widths)
    starts = range(0, len(inputs), BATCH)
    found: dict[tuple[str, int], float] = {}
    with torch.inference_mode():
        for number, start in enumerate(starts):
            images = torch.from_numpy(inputs[start : start + BATCH]).contiguous(memory_format=torch.channels_last)
            for done, (layer, width, cosines) in enumerate(network.tried(images)):
                found[layer, width] = found.get((layer, width), 0.0) + float((1 - cosines).sum()) / len(inputs)
                progress(number * network.trials + done + 1, len(starts) * network.trials)
    return _by_layer(found)


def widths_effort(model: QuantizedModel, target: Target, widths: Sequence[int]) -> int:
    """Return how many multiply-adds (see analysis.sensitivity) `measure_widths` takes for one image."""
    network = _Rounded(model, target, widths)
    with torch.inference_mode():
        behind = network.cost_from(torch.zeros(1, *model.spec.input_shape))
    return int(2 * behind[0] + len(widths) * sum(int(behind[layer.place]) for layer in network.layers))


def predict_widths(
    model: QuantizedModel, target: Target, inputs: Floats, widths: Sequence[int], *, seed: int, batch_size: int
) -> Losses:
    """Predict the same from squared rounding errors and the Fisher information on images [N, C, height, width].

    An error of variance v in every position of a kernel loses v / 2 times what `Statistics.weights` says.
    """
    seen = measure_statistics(
        model.network, (), inputs, seed=seed, batch_size=batch_size, progress=lambda done, total: None
    ).weights
    found: dict[tuple[str, int], float] = {}
    for layer in _Rounded(model, target, widths).layers:
        for width in widths:
            square = (layer.rounded(width) - layer.weight).square()
            felt = square.reshape(*square.shape[:2], -1).mean(2) * seen[layer.name]
            found[layer.name, width] = 0.5 * float(felt.sum(dtype=torch.float64))
    return _by_layer(found)


def weights_loss(model: QuantizedModel, target: Target, inputs: Floats) -> float:
    """Return 1 - cosine to float, as mean over images [N, C, height, width], of rounding the weights of all layers."""
    simulation = prepare(model, target)
    for module in simulation.prepared.modules():
        if isinstance(module, ActivationQuantizer):
            module.quantizes = False
    losses: list[npt.NDArray[np.float64]] = []
    with torch.inference_mode():
        for images in torch.split(torch.from_numpy(inputs), BATCH):
            simulation.round_weights(True)
            rounded = simulation(images)
            simulation.round_weights(False)
            losses.append(1 - row_cosines(rounded, simulation(images)))
    return float(np.concatenate(losses).mean())


@dataclass(frozen=True)
class _Layer:
    """A layer of a simulation, its float weight, and who rounds it; `place` is where it is first run."""

    name: str
    place: int
    module: nn.Conv2d | nn.Linear
    weight: torch.Tensor
    quantizer: WeightQuantizer
    model: QuantizedModel
    target: Target
    compact: bool

    def rounded(self, width: int) -> torch.Tensor:
        """Return the weight rounded to a width."""
        self.quantizer.width = Width(width, self.compact)
        largest = largest_codes(self.module, self.target, self.model.deployment, self.quantizer.width)
        self.quantizer.largest_codes = torch.from_numpy(largest)
        self.quantizer.release_scale()
        return cast(torch.Tensor, self.quantizer(self.weight))


class _Rounded(Walk):
    """A simulation without quantizers of activations, whose layers take their weights as they are."""

    def __init__(self, model: QuantizedModel, target: Target, widths: Sequence[int]) -> None:
        super().__init__(prepare(model, target).prepared)
        for module in self.graph.modules():
            if isinstance(module, ActivationQuantizer):
                module.quantizes = False
        self.widths = tuple(widths)
        self.layers = list(self._layers(model, target, min(widths) < EIGHT_BITS))
        self.trials = len(self.layers) * len(self.widths)

    def _layers(self, model: QuantizedModel, target: Target, compact: bool) -> Iterator[_Layer]:
        names = {str(node.target): node.name for node in rounded_layers(model)}
        for place, node in enumerate(self.nodes):
            if name := names.get(str(node.target)):
                layer: Any = self.graph.get_submodule(str(node.target))
                quantizer, layer.weight_fake_quant = layer.weight_fake_quant, nn.Identity()
                weight = layer.weight.detach().clone()
                yield _Layer(name, place, layer, weight, quantizer, model, target, compact)

    def tried(self, images: torch.Tensor) -> Iterator[tuple[str, int, npt.NDArray[np.float64]]]:
        """Yield each layer, width and the cosine of each image to float with this layer alone at this width."""
        reference = self.run_from(0, {}, images)
        if not torch.isfinite(reference).all():
            raise MeasurementError("embeddings are not finite", fix="check the weights of the model")
        live: dict[fx.Node, torch.Tensor] = {}
        place = 0
        for layer in self.layers:
            for before in range(place, layer.place):
                self.step(before, live, images)
            place = layer.place
            for width in self.widths:
                layer.module.weight.data = layer.rounded(width)
                yield layer.name, width, row_cosines(self.run_from(place, live, images), reference)
            layer.module.weight.data = layer.weight


def _by_layer(found: Mapping[tuple[str, int], float]) -> Losses:
    losses: dict[str, dict[int, float]] = {}
    for (layer, width), loss in found.items():
        losses.setdefault(layer, {})[width] = loss
    return losses
