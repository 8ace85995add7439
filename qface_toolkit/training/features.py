"""What a teacher sees where: feature maps of a network, beside what it says of the whole face.

A map holds forty times as many numbers as an embedding, so that an image teaches more. After FitNets (Romero et al.
2015, section 2.2), on the last map instead of a middle one: it is what embeddings are made of, in any network. Of a
student that was made of its teacher by taking channels out, every layer's input has its like in the teacher.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from qface_toolkit.training.norms import RankNorm

_PICTURES = (nn.Conv2d, nn.BatchNorm2d, RankNorm, nn.PReLU)
"""What gives images [N, C, H, W] wherever it stands."""


class LastMap:
    """Remembers the last output [N, C, H, W] of more than one pixel in a network's pass."""

    def __init__(self, network: nn.Module) -> None:
        self._map: Tensor | None = None
        # Others' outputs of four axes may be anything: matrices of attention, or images whose channels lie last.
        parts = [module for module in network.modules() if isinstance(module, _PICTURES)]
        self._hooks = [module.register_forward_hook(self._seen) for module in parts]

    def __deepcopy__(self, memo: dict[int, object]) -> "LastMap":
        """Return one that remembers nothing, for a copy of the network."""
        return LastMap(nn.Identity())

    def _seen(self, module: nn.Module, given: object, returned: object) -> None:
        if isinstance(returned, Tensor) and returned.dim() == 4 and returned.shape[2] * returned.shape[3] > 1:
            self._map = returned

    def take(self) -> Tensor | None:
        """Return the map of the pass that is over, and forget it."""
        found, self._map = self._map, None
        return found

    def leave(self) -> None:
        """Leave the network alone from now on."""
        for hook in self._hooks:
            hook.remove()


class Inputs:
    """Remembers what some layers, by their paths, read in a network's pass; `channels` are taken of each, if any."""

    def __init__(self, network: nn.Module, paths: Sequence[str], channels: Sequence[Tensor] = ()) -> None:
        self._seen: dict[int, Tensor] = {}
        self._channels = channels
        self._hooks = [
            network.get_submodule(path).register_forward_pre_hook(partial(self._read, number))
            for number, path in enumerate(paths)
        ]

    def __deepcopy__(self, memo: dict[int, object]) -> "Inputs":
        """Return one that remembers nothing, for a copy of the network."""
        return Inputs(nn.Identity(), ())

    def _read(self, number: int, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        self._seen[number] = given[0][:, self._channels[number]] if self._channels else given[0]

    def take(self) -> tuple[Tensor, ...]:
        """Return the inputs of the pass that is over, and forget them."""
        found, self._seen = self._seen, {}
        return tuple(found[number] for number in sorted(found))

    def leave(self) -> None:
        """Leave the network alone from now on."""
        for hook in self._hooks:
            hook.remove()


@dataclass(frozen=True)
class Likeness:
    """Layers of a student, by their paths, whose inputs have their like among some channels of the teacher's."""

    paths: tuple[str, ...]
    channels: tuple[Tensor, ...]


def error_share(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Return the mean over tensors of the squared error as a share of the squares that are wanted."""
    shares = [
        (one - other).square().mean() / other.square().mean().clamp_min(1e-12)
        for one, other in zip(found, wanted, strict=True)
    ]
    return torch.stack(shares).mean()


@torch.no_grad()
def map_channels(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Return how many channels a network's last map has, 0 if there is none, by a pass over an image of zeros."""
    device = next(network.parameters()).device
    training, seen = network.training, LastMap(network)
    network.eval()(torch.zeros(1, *shape, device=device))
    network.train(training)
    found = seen.take()
    return 0 if found is None else found.shape[1]


def map_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Return one less the mean cosine, over batch and places, of maps [N, C, ...] of the same channels.

    Of two sizes the smaller is taken.
    """
    size = min(found.shape[2], wanted.shape[2]), min(found.shape[3], wanted.shape[3])
    one, other = (functional.adaptive_avg_pool2d(part.float(), size) for part in (found, wanted))
    return (1 - functional.cosine_similarity(one, other, dim=1)).mean()
