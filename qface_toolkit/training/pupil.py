"""A student with what it needs while it learns and loses afterwards, and the few things that make it quick."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from qface_toolkit.training.features import Inputs, LastMap


class Said(NamedTuple):
    """What a pupil makes of images: embeddings [N, D], what its teacher is shown [N, T], a guess at traits [N, K].

    `features` is its last feature map [N, C, H, W], as the teacher's has channels; `read` is what layers that have
    their like in the teacher read.
    """

    embeddings: Tensor
    shown: Tensor
    traits: Tensor | None
    features: Tensor | None
    read: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Sizes:
    """What a pupil says has these sizes: embedding, what the teacher is shown, traits; channels of maps, 0 for none.

    `own_map` are the network's own channels, `shown_map` the teacher's.
    """

    embedding: int
    shown: int
    traits: int = 0
    own_map: int = 0
    shown_map: int = 0


class Pupil(nn.Module):
    """A network, a linear map to the size of the teacher's embeddings, and a linear guess at traits."""

    def __init__(self, network: nn.Module, sizes: Sizes, seed: int, alike: Sequence[str] = ()) -> None:
        """Take a network; `alike` are the paths of layers whose inputs are told too."""
        super().__init__()
        self.network = network
        self._inputs = Inputs(network, alike)
        self._last = LastMap(network) if sizes.own_map else None
        same = sizes.shown == sizes.embedding
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projection = None if same else nn.Linear(sizes.embedding, sizes.shown, bias=False)
            self.guess = nn.Linear(sizes.embedding, sizes.traits) if sizes.traits else None
            self.map = nn.Conv2d(sizes.own_map, sizes.shown_map, 1) if sizes.own_map else None

    def forward(self, images: Tensor) -> Said:
        """Map images [N, C, H, W] to what the pupil says of them, in float32."""
        embeddings = self.network(images).float()
        seen = None if self._last is None else self._last.take()
        # What is compared has few numbers, and they are what is learnt from.
        with torch.autocast(images.device.type, enabled=False):
            shown = embeddings if self.projection is None else self.projection(embeddings)
            traits = None if self.guess is None else self.guess(embeddings)
            features = None if self.map is None or seen is None else self.map(seen.float())
            read = tuple(one.float() for one in self._inputs.take())
        return Said(embeddings, shown, traits, features, read)

    def alone(self) -> nn.Module:
        """Return the network in evaluation mode, as it was before it learnt but for its weights."""
        self._inputs.leave()
        if self._last is not None:
            self._last.leave()
        slow(self.network)
        return self.network.eval()


class _Slope(torch.autograd.Function):
    """PReLU with a gradient of few passes, each vectorised: torch's own takes a third of PocketNet's training."""

    @staticmethod
    def forward(ctx, x: Tensor, slope: Tensor) -> Tensor:  # type: ignore[no-untyped-def]  # noqa: ANN001 - torch's
        ctx.save_for_backward(x, slope)
        return functional.prelu(x, slope)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]  # noqa: ANN001
        x, slope = ctx.saved_tensors
        shape = [1, -1, *(1 for _ in range(x.dim() - 2))]
        above: Tensor = torch.ops.aten.threshold_backward(gradients[0], x, 0)
        below = gradients[0] - above
        entering = above.addcmul_(below, slope.view(shape))
        along = below.mul_(x).sum([axis for axis in range(x.dim()) if axis != 1])
        return entering, along if len(slope) > 1 else along.sum()[None]


class QuickPReLU(nn.PReLU):
    """PReLU by `_Slope`; the state and its keys are the same."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, ...] to the same shape."""
        if x.requires_grad and torch.is_grad_enabled():
            quick: Tensor = _Slope.apply(x, self.weight)  # type: ignore[no-untyped-call]
            return quick
        return functional.prelu(x, self.weight)


class QuickSequence(nn.Sequential):
    """A sequence that ends a depthwise 1x1 convolution in the pointwise one behind it: one pass fewer, both ways.

    Neither has a bias; the product of two convolutions of one pixel is one of one pixel.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map as the layers one after the other do."""
        layers = list(self)
        place = 0
        while place < len(layers):
            if place + 1 < len(layers) and _joins(layers[place], layers[place + 1]):
                first, second = cast(nn.Conv2d, layers[place]), cast(nn.Conv2d, layers[place + 1])
                weight = second.weight * first.weight.view(1, -1, 1, 1)
                x = functional.conv2d(_every(x, first.stride), weight)
                place += 2
            else:
                x = layers[place](x)
                place += 1
        return x


class StridedPixels(nn.Conv2d):
    """A strided convolution of single pixels as one of every second pixel: the same, without what it skips.

    torch 2.13 crashes in the gradient of the other one, of fewer than 16 channels that lie last.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H/stride, W/stride]."""
        return functional.conv2d(_every(x, self.stride), self.weight, self.bias)


def _every(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    return x if stride == (1, 1) else x[:, :, :: stride[0], :: stride[1]]


def _strides(module: nn.Module) -> bool:
    """Tell whether this is a strided convolution of single pixels."""
    if type(module) is not nn.Conv2d or module.groups != 1 or module.stride == (1, 1):
        return False
    return module.kernel_size == (1, 1) and module.padding == (0, 0)


def _joins(first: nn.Module, second: nn.Module) -> bool:
    """Tell whether these are a depthwise convolution of one pixel and a pointwise one, without bias and padding."""
    if not (isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)):
        return False
    single = all(one.kernel_size == (1, 1) and one.padding == (0, 0) and one.bias is None for one in (first, second))
    depthwise = first.groups == first.in_channels == first.out_channels
    return single and depthwise and second.groups == 1 and second.stride == (1, 1)


def quicken(network: nn.Module) -> None:
    """Let a network's own classes of PReLU and sequences compute the same in fewer passes, in place."""
    for module in network.modules():
        if type(module) is nn.PReLU:
            module.__class__ = QuickPReLU
        elif type(module) is nn.Sequential and any(map(_joins, list(module)[:-1], list(module)[1:])):
            module.__class__ = QuickSequence
        elif _strides(module):
            module.__class__ = StridedPixels


def slow(network: nn.Module) -> None:
    """Take back what `quicken` did."""
    for module in network.modules():
        if isinstance(module, QuickPReLU):
            module.__class__ = nn.PReLU  # type: ignore[assignment]
        elif isinstance(module, QuickSequence):
            module.__class__ = nn.Sequential  # type: ignore[assignment]
        elif isinstance(module, StridedPixels):
            module.__class__ = nn.Conv2d  # type: ignore[assignment]
