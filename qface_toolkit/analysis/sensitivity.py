"""Where the loss is: each quantizer of a simulation alone, and each left out, measured and not guessed.

A pass for each of them over the whole network would take minutes. Instead the network is walked once, with all
quantizers off and once with all on; at each quantizer the walk holds the tensors that are still to be read, and from
there the rest of the network is run with this one quantizer switched.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from qface_toolkit.analysis.walk import BATCH, Walk, row_cosines
from qface_toolkit.canonical.graph import operation
from qface_toolkit.errors import MeasurementError
from qface_toolkit.quantize.image_input import as_deployed
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.quantizers import ActivationQuantizer, WeightQuantizer
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import Target

Floats = npt.NDArray[np.float32]
Kind = Literal["activation", "weights"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class QuantizerEffect:
    """What one quantizer does to the embedding, as mean over images.

    `name` is the tensor, or the layer whose weights are rounded. `loss_alone` is 1 - cosine to float with this one
    alone on; `gain_left_out` is what the cosine gains if this one alone is off, and may be negative.
    """

    kind: Kind
    name: str
    loss_alone: float
    gain_left_out: float


@dataclass(frozen=True)
class Sensitivity:
    """The effect of every quantizer of a target, in order of execution, and of all of a kind: 1 - cosine to float."""

    target: str
    images: int
    loss: float
    activations_loss: float
    weights_loss: float
    quantizers: tuple[QuantizerEffect, ...]


def measure_sensitivity(
    model: QuantizedModel, target: Target, inputs: Floats, progress: Progress = lambda done, total: None
) -> Sensitivity:
    """Measure every quantizer of a target alone and left out, on preprocessed images [N, C, height, width].

    Slopes that a target rounds count as the weights of their PReLU.

    Raises:
        MeasurementError: if the network's embeddings are not finite.
    """
    run, given = as_deployed(model, target, inputs)
    network, batches = _Network(run, target), range(0, len(given), BATCH)
    found: list[_Cosines] = []
    with torch.inference_mode():
        for done, start in enumerate(batches):
            images = torch.from_numpy(given[start : start + BATCH])
            found.append(network.cosines(images.contiguous(memory_format=torch.channels_last)))
            progress(done + 1, len(batches))
    return _summary(network, target, {key: np.concatenate([one[key] for one in found]) for key in found[0]})


def affordable_images(model: QuantizedModel, target: Target, most: int, budget: float) -> int:
    """Return how many images, up to `most`, can be measured with so many multiply-adds (see NUMBER_COST); 0 if none."""
    return min(most, int(budget // effort(model, target)))


def effort(model: QuantizedModel, target: Target) -> int:
    """Return how many multiply-adds `measure_sensitivity` takes for one image: it depends on the network alone."""
    run, given = as_deployed(model, target, np.zeros((1, *model.spec.input_shape), np.float32))
    network = _Network(run, target)
    with torch.inference_mode():
        return network.effort(torch.from_numpy(given))


_Key = tuple[str, int]
"""("alone" or "left out", number of the switch), or ("on", number of the group)."""
_Cosines = dict[_Key, npt.NDArray[np.float64]]
_GROUPS: tuple[tuple[Kind, ...], ...] = (("activation",), ("weights",), ("activation", "weights"))


@dataclass(frozen=True)
class _Switch:
    """A quantizer that can be turned on and off; `first` is the place of the first node that it changes."""

    kind: Kind
    name: str
    first: int
    turn: Callable[[bool], None]


class _Network(Walk):
    """A simulation, all of whose quantizers have switches, and which can be run from any place on."""

    def __init__(self, model: QuantizedModel, target: Target) -> None:
        super().__init__(prepare(model, target).prepared)
        switches = [*_activations(self.graph, model), *_weights(self.graph, model)]
        self.switches = sorted(switches, key=lambda switch: switch.first)

    def cosines(self, images: torch.Tensor) -> _Cosines:
        """Return the cosine to float of each image, for each way to set the switches."""
        self.turn(())
        reference = self.run_from(0, {}, images)
        found: _Cosines = {}
        for number, kinds in enumerate(_GROUPS):
            self.turn(kinds)
            found["on", number] = row_cosines(self.run_from(0, {}, images), reference)
        for name, kinds in (("left out", _GROUPS[-1]), ("alone", ())):
            for place, embeddings in self.switched(kinds, images):
                found[name, place] = row_cosines(embeddings, reference)
        return found

    def turn(self, kinds: tuple[Kind, ...]) -> None:
        """Turn all switches of these kinds on, and all others off."""
        for switch in self.switches:
            switch.turn(switch.kind in kinds)

    def switched(self, kinds: tuple[Kind, ...], images: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Turn switches of these kinds on; yield each one's number and the embeddings when it alone is turned over."""
        self.turn(kinds)
        live: dict[fx.Node, torch.Tensor] = {}
        place = 0
        for number, switch in enumerate(self.switches):
            for before in range(place, switch.first):
                self.step(before, live, images)
            place = switch.first
            switch.turn(switch.kind not in kinds)
            yield number, self.run_from(place, live, images)
            switch.turn(switch.kind in kinds)

    def effort(self, images: torch.Tensor) -> int:
        """Return the cost of everything that `cosines` runs for one image."""
        behind = self.cost_from(images)
        return int((2 + 2 * len(_GROUPS)) * behind[0] + 2 * sum(int(behind[switch.first]) for switch in self.switches))


def _activations(graph: fx.GraphModule, model: QuantizedModel) -> Iterator[_Switch]:
    """Yield the switch of each tensor that the target quantizes; FX and the plan have them in the same order."""
    found: dict[fx.Node, list[ActivationQuantizer]] = {}
    places: dict[fx.Node, int] = {}
    for place, node in enumerate(graph.graph.nodes):
        quantizer = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(quantizer, ActivationQuantizer):
            found.setdefault(node.args[0], []).append(quantizer)
            places.setdefault(node.args[0], place)
    for (source, quantizers), name in zip(found.items(), model.plan.tensors, strict=True):
        if all(quantizer.quantizes and quantizer.fixed for quantizer in quantizers):
            yield _Switch("activation", name, places[source], partial(_turn_activation, quantizers))


def _turn_activation(quantizers: list[ActivationQuantizer], on: bool) -> None:
    for quantizer in quantizers:
        quantizer.quantizes = on


def _weights(graph: fx.GraphModule, model: QuantizedModel) -> Iterator[_Switch]:
    """Yield the switch of each layer's weights, and take the quantizers away: a weight is rounded once and for all."""
    weighted = (node for node in model.network.graph.nodes if operation(node) in ("conv", "linear", "prelu"))
    names = {str(node.target): node.name for node in weighted}
    for place, node in enumerate(graph.graph.nodes):
        if name := names.get(str(node.target)):
            layer, own = graph.get_submodule(str(node.target)), model.network.get_submodule(str(node.target)).weight
            weight = cast(torch.Tensor, own).detach().clone()
            if (rounded := _rounded_weight(layer, weight)) is not None:
                yield _Switch("weights", name, place, partial(_turn_weights, layer, (weight, rounded)))


def _rounded_weight(layer: nn.Module, weight: torch.Tensor) -> torch.Tensor | None:
    """Return what a layer's weight is rounded to, if it is, and have the layer take its weight as it is."""
    quantizer = getattr(layer, "weight_fake_quant", None)
    if isinstance(quantizer, WeightQuantizer):
        layer.weight_fake_quant = nn.Identity()
        return cast(torch.Tensor, quantizer(weight))
    slopes = layer.weight.detach() if isinstance(layer, nn.PReLU) else weight
    return None if torch.equal(slopes, weight) else slopes


def _turn_weights(layer: nn.Module, weights: tuple[torch.Tensor, torch.Tensor], on: bool) -> None:
    cast(torch.Tensor, layer.weight).data = weights[on]


def _summary(network: _Network, target: Target, cosines: _Cosines) -> Sensitivity:
    means = {key: float(values.mean()) for key, values in cosines.items()}
    if not np.isfinite(list(means.values())).all():
        raise MeasurementError("embeddings are not finite", fix="check the weights and ranges of the model")
    everything = means["on", 2]
    effects = tuple(
        QuantizerEffect(switch.kind, switch.name, 1 - means["alone", number], means["left out", number] - everything)
        for number, switch in enumerate(network.switches)
    )
    images = len(cosines["on", 0])
    return Sensitivity(target.name, images, 1 - everything, 1 - means["on", 0], 1 - means["on", 1], effects)
