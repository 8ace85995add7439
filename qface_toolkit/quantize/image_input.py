"""Networks that take the pixels of an image as they are: mean and standard deviation become part of the first layer.

A pixel p is its own code on a grid of step 1 whose zero point z lies at the mean, so it stands for p - z and nothing is
rounded. What x = (p - mean) / std adds to that is a constant inside the image and nothing in the zero padding around
it, where x is 0; one more channel that is constant inside the image and padded with zeros like the others carries it.

Where the network is given preprocessed images instead, their range needs no calibration: a pixel has 256 values.
"""

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from qface_toolkit.canonical.edit import bypass, own_module
from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.canonical.islands import Island
from qface_toolkit.errors import UnsupportedModel
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import make_plan
from qface_toolkit.quantize.scheme import ACTIVATION_MAX, EIGHT_BITS, WEIGHT_MAX, LayerScheme, Range, activation_qparams
from qface_toolkit.quantize.target import Target

_TIE_MARGIN = 0.001
"""A pixel must not lie this close to the middle between two codes, in steps: runtimes break ties differently, and with
the usual mean of 127.5 and a range taken from the data every pixel of an image is such a tie. A wider margin leaves no
range for means that differ between the channels: 768 values lie everywhere between two codes."""


def image_range(model: QuantizedModel) -> Range:
    """Return the range of the image as a network's first layer reads it, also where the network scales it first."""
    island = _scaling(model.network)
    return input_range(model.spec, module(island) if island else None)


def input_range(spec: ModelSpec, scaling: Island | None = None) -> Range:
    """Return the range, at most 10 % wider than the pixels', with the least squared rounding error and no ties."""
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    pixels = (np.arange(256, dtype=np.float32)[:, None] - mean) / std
    if scaling is not None:
        scale, shift = (constant.numpy().reshape(-1) for constant in scaling.constants)
        pixels = pixels * scale + shift
    candidates = [
        Range(min(float(pixels.min()), 0.0) * wider, max(float(pixels.max()), 0.0) * wider)
        for wider in np.linspace(1.0, 1.1, 401)
    ]
    return min(candidates, key=lambda candidate: _cost(pixels, candidate))


def _cost(pixels: np.ndarray[tuple[int, ...], np.dtype[np.float32]], candidate: Range) -> tuple[bool, float]:
    scale, zero_point = activation_qparams(candidate)
    steps = pixels.astype(np.float64) / scale
    distance_to_tie = np.abs(steps - np.floor(steps) - 0.5).min()
    codes = np.clip(np.rint(steps) + zero_point, 0, 255)
    squared_error = np.mean(((codes - zero_point) * scale - pixels) ** 2)
    return bool(distance_to_tie < _TIE_MARGIN), float(squared_error)


@dataclass(frozen=True)
class ImageGrid:
    """What a pixel's code means: `code - zero_point`; `constant` is the fourth channel's value inside the image."""

    zero_point: int
    constant: int

    @property
    def range(self) -> Range:
        """Return the range that makes the scale exactly 1."""
        return Range(float(-self.zero_point), float(ACTIVATION_MAX - self.zero_point))


def image_grid(spec: ModelSpec) -> ImageGrid:
    """Return the grid of a model's pixels; its mean and standard deviation alone decide.

    The zero point is the pixel nearest to the middle mean. The constant is just so large that no weight of the last
    channel, which is at most |z - mean| summed over the colours times the others' largest, need be above them.
    """
    zero_point = int(np.clip(np.rint(np.median(spec.mean)), 0, ACTIVATION_MAX))
    needed = math.ceil(sum(abs(zero_point - mean) for mean in spec.mean))
    constant = min(max(needed, 1), WEIGHT_MAX)
    return ImageGrid(zero_point, constant if zero_point <= ACTIVATION_MAX - WEIGHT_MAX else -constant)


def takes_pixels(model: QuantizedModel, target: Target) -> bool:
    """Tell whether a target's form of a model takes pixels: only ONNX files can."""
    return model.deployment.image == "uint8" and target.takes_pixels


def _input(network: fx.GraphModule) -> fx.Node:
    entering: fx.Node = next(node for node in network.graph.nodes if operation(node) == "input")
    return entering


def _scaling(network: fx.GraphModule) -> fx.Node | None:
    """Return the island that alone reads the input and scales it, if there is one."""
    readers = list(_input(network).users)
    scales = len(readers) == 1 and operation(readers[0]) == "island" and module(readers[0]).kind == "scaled"
    return readers[0] if scales else None


def input_convolution(network: fx.GraphModule) -> fx.Node:
    """Return the convolution that can take a canonical network's pixels.

    Raises:
        UnsupportedModel: if anything else reads the input.
    """
    entering = _scaling(network) or _input(network)
    readers: list[fx.Node] = list(entering.users)
    if len(readers) != 1 or operation(readers[0]) != "conv":
        raise UnsupportedModel(
            "mean and standard deviation can be absorbed only by one convolution that alone reads the input",
            where=", ".join(f"{node.name} ({operation(node)})" for node in readers),
            fix="keep the preprocessed input: export.input=float",
        )
    return readers[0]


def absorb_preprocessing(model: QuantizedModel) -> QuantizedModel:
    """Return the same function of what `image_inputs` makes, [N, C + 1, height, width]; the model is left alone.

    The first weights get eight bits whatever the scheme: one channel of them is a bias, and the others were rounded for
    another input.

    Raises:
        UnsupportedModel: if anything but one convolution reads the input.
    """
    network = copy.deepcopy(model.network)
    node, spec, island = input_convolution(network), model.spec, _scaling(network)
    own_module(node, _absorbing(module(node), module(island) if island else None, spec))
    if island:
        bypass(island)
        model = replace(model, plan=make_plan(network, model.plan.forms, model.plan.kept))
    owner = model.plan.tensors[inputs(node)[0].name].owner
    # In front of the entries that were there, so that a compact scheme stays compact.
    layers = (LayerScheme(node.name, weights=EIGHT_BITS), *model.scheme.layers)
    absorbed = replace(model, network=network, scheme=replace(model.scheme, layers=layers))
    return absorbed.with_ranges({**model.ranges, owner: image_grid(spec).range})


def _absorbing(conv: nn.Conv2d, island: Island | None, spec: ModelSpec) -> nn.Conv2d:
    """Return the convolution of `image_inputs` that gives what `conv` gives of the preprocessed, and scaled, image."""
    grid, weight = image_grid(spec), _dense_weight(conv).double()
    mean, std = (torch.tensor(fact, dtype=torch.float64).reshape(1, -1, 1, 1) for fact in (spec.mean, spec.std))
    scale, shift = (part.double() for part in island.constants) if island else (torch.ones_like(mean), 0 * mean)
    scaled = weight * scale / std
    shift = (scaled * (grid.zero_point - mean) + weight * shift).sum(1, keepdim=True) / grid.constant
    if spec.color == "bgr":
        scaled = scaled.flip(1)
    wide = copy.deepcopy(conv)
    wide.in_channels, wide.groups = spec.channels + 1, 1
    wide.weight = nn.Parameter(torch.cat([scaled, shift], 1).float())
    return wide


def _dense_weight(conv: nn.Conv2d) -> torch.Tensor:
    """Return a weight over all colours, zero where a group does not read them."""
    weight, members = conv.weight.detach(), conv.in_channels // conv.groups
    dense = weight.new_zeros(conv.out_channels, conv.in_channels, *conv.kernel_size)
    for row in range(conv.out_channels):
        first = row // (conv.out_channels // conv.groups) * members
        dense[row, first : first + members] = weight[row]
    return dense


def image_inputs(spec: ModelSpec, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return what an absorbed network eats, float32 [N, C + 1, H, W], of its pixels, uint8 [N, H, W, C]."""
    grid = image_grid(spec)
    centred = pixels.transpose(0, 3, 1, 2).astype(np.float32) - grid.zero_point
    return np.pad(centred, ((0, 0), (0, 1), (0, 0), (0, 0)), constant_values=grid.constant)


def as_deployed(
    model: QuantizedModel, target: Target, inputs: npt.NDArray[np.float32]
) -> tuple[QuantizedModel, npt.NDArray[np.float32]]:
    """Return the model that a target runs and what it is given of preprocessed images [N, C, height, width].

    A form that takes pixels is given those that the images were made from.
    """
    if not takes_pixels(model, target):
        return model, inputs
    return absorb_preprocessing(model), image_inputs(model.spec, model.spec.pixels_of(inputs))
