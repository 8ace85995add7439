"""What a student is trained by: margins on the angle to identities, and distances to a teacher's embeddings.

ArcFace (Deng et al. 2019, section 3), CosFace (Wang et al. 2018, section 3.2), AdaFace (Kim et al. 2022, section 3.3);
knowledge distillation on normalised embeddings as PocketNet has it (Boutros et al. 2021, section 3.3), by the cosine,
and by the batch's cosine matrix (relational distillation, after Park et al. 2019).
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

MarginName = Literal["arcface", "cosface", "adaface"]
MARGINS: tuple[MarginName, ...] = get_args(MarginName)
DistanceName = Literal["mse", "cosine"]
DISTANCES: tuple[DistanceName, ...] = get_args(DistanceName)

_EDGE = 1e-6
"""How near to 1 a cosine may come before its angle has no gradient."""


def arcface(cosine: Tensor, margin: float) -> Tensor:
    """Return the cosines [N] of angles that are `margin` radians wider.

    Past pi - margin the cosine would rise again; there a straight line goes on falling.
    """
    cosine = cosine.clamp(-1 + _EDGE, 1 - _EDGE)
    widened = cosine * math.cos(margin) - torch.sqrt(1 - cosine * cosine) * math.sin(margin)
    return torch.where(cosine < -math.cos(margin), cosine - margin * math.sin(margin), widened)


def cosface(cosine: Tensor, margin: float) -> Tensor:
    """Return the cosines [N] less `margin`."""
    return cosine - margin


class AdaFace(nn.Module):
    """A margin that follows the embedding's length, which tells how good an image is: wider for good ones.

    It keeps a running mean and deviation of lengths, which begin as published.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, share: float = 0.01, concentration: float = 0.333) -> None:
        super().__init__()
        self.share, self.concentration = share, concentration
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("deviation", torch.tensor(100.0))

    def forward(self, cosine: Tensor, margin: float, lengths: Tensor) -> Tensor:
        """Return the cosines [N] with each its margin; `lengths` [N] are of the whole batch's embeddings."""
        with torch.no_grad():
            lengths = lengths.clamp(0.001, 100.0)
            if self.training and len(lengths) > 1:
                self.mean.lerp_(lengths.mean(), self.share)
                self.deviation.lerp_(lengths.std(), self.share)
            quality = ((lengths - self.mean) / (self.deviation + 0.001) * self.concentration).clamp(-1, 1)
        angle = torch.acos(cosine.clamp(-1 + _EDGE, 1 - _EDGE)) - margin * quality
        return torch.cos(angle.clamp(0.001, math.pi - 0.001)) - margin * (1 + quality)


def distance(found: Tensor, wanted: Tensor, kind: DistanceName) -> Tensor:
    """Return the mean distance between normalised embeddings, both [N, D].

    `mse` is over batch and numbers, as published: the squared distance divided by D. `cosine` is one minus the cosine.
    """
    found, wanted = functional.normalize(found), functional.normalize(wanted)
    if kind == "mse":
        return functional.mse_loss(found, wanted)
    return (1 - (found * wanted).sum(1)).mean()


def relation(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared difference of two batches' cosine matrices; the embeddings' sizes may differ."""
    found, wanted = functional.normalize(found), functional.normalize(wanted)
    return (found @ found.T - wanted @ wanted.T).pow(2).mean()
