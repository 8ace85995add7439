"""What a family file puts into `ENTRIES`: how to read a network's plan off a checkpoint's shapes, and build it.

To add an architecture, write one file: a plain nn.Module whose state-dict keys are those of the public
checkpoints, a plan (a frozen dataclass with the numbers that vary: widths, block counts, embedding size), a
function that reads the plan off keys and shapes, and `ENTRIES`. `iresnet.py` is the shortest example.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from qface_toolkit.framing import CropName
from qface_toolkit.models._spec import PREPROCESSING, PROVENANCE, Color, PerChannel
from qface_toolkit.registry import Registry

Shapes = Mapping[str, tuple[int, ...]]
"""The keys of a state dict and the shapes of their tensors."""


class Plan(Hashable, Protocol):
    """The numbers that tell one network of a layout from another."""

    @property
    def name(self) -> str:
        """The architecture's name, the same as in `ENTRIES` when the network is a published one."""
        ...

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input, in pixels."""
        ...

    @property
    def embedding_size(self) -> int:
        """How many numbers the embedding has."""
        ...

    def build(self) -> nn.Module:
        """Return the network with fresh weights; its state-dict keys are exactly the checkpoint's."""
        ...


@runtime_checkable
class ScalablePlan(Plan, Protocol):
    """A plan that knows the narrower and wider relatives of its network."""

    def scaled(self, width: float) -> Plan:
        """Return the plan with so many times the channels; 1 gives the plan itself. The embedding keeps its size."""
        ...


@runtime_checkable
class ToldPlan(Plan, Protocol):
    """A plan that holds what keys and shapes do not show, so that texts must say it beside the weights."""

    @property
    def texts(self) -> dict[str, str]:
        """What must be said, by its key; nothing of a published network."""
        ...

    def as_told(self, texts: Mapping[str, str]) -> Plan:
        """Return the plan as texts beside the weights, which may be a stranger's, say it is.

        Raises:
            CheckpointError: if they say what cannot be.
        """
        ...


@dataclass(frozen=True)
class Architecture:
    """A published network and the way to recognise it and its narrower or shorter relatives.

    `read` may index the shapes freely: a LookupError or ValueError means "not this layout". `mean`, `std`, `color` and
    `crop` are the preprocessing the network was published with (0..255, in this order of colours); `source` is the
    paper or the repository. `license` and `origin` are those of the weights where all of a layout come from one place.
    `caution` is what a user of a checkpoint must know where others with the same keys were trained otherwise.
    `told_by_keys` says that its graph is that of another architecture, which a network without keys is taken for.
    """

    published: Plan
    read: Callable[[Shapes], Plan]
    source: str
    mean: PerChannel = (127.5, 127.5, 127.5)
    std: PerChannel = (127.5, 127.5, 127.5)
    color: Color = "rgb"
    license: str = "unknown"
    origin: str = "unknown"
    crop: CropName = "arcface"
    caution: str = ""
    told_by_keys: bool = False

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of a checkpoint of this layout that says nothing itself, as `ModelSpec.override` takes it."""
        return {key: getattr(self, key) for key in (*PREPROCESSING, "crop", *PROVENANCE)}

    def count_parameters(self) -> int:
        """Return how many trainable numbers the published network has, without making them."""
        with torch.device("meta"):
            network = self.published.build()
        return sum(parameter.numel() for parameter in network.parameters())


ARCHITECTURES: Registry[Architecture] = Registry("architecture", "qface_toolkit.models")


def scaled_channels(channels: int, width: float, *, step: int = 8) -> int:
    """Return so many times the channels, as a multiple of `step` and at least that; 1 leaves them as they are."""
    return channels if width == 1 else max(step, int(channels * width / step + 0.5) * step)


def count_children(shapes: Shapes, prefix: str) -> int:
    """Return how many numbered modules stand under `prefix`, so that a plan never outgrows the checkpoint's keys."""
    rests = (key[len(prefix) :] for key in shapes if key.startswith(prefix))
    return len({rest.partition(".")[0] for rest in rests if rest[:1].isdecimal()})
