"""One direction for each identity, spread over the ranks: the head of ArcFace, which is thrown away after training.

A million identities do not fit on one machine. As in Partial FC (An et al. 2021, section 3), each rank holds a run of
neighbouring identities, sees the embeddings of all ranks, and only sums over identities go around; with `sample` below
1, a batch is held against its own identities and that share of the others.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from qface_toolkit.ranks import Ranks
from qface_toolkit.training.losses import AdaFace, MarginName, arcface, cosface


class _Gathered(torch.autograd.Function):
    """The rows of all ranks; what all ranks ask of a row is summed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: Ranks) -> Tensor:  # noqa: ANN401 - torch's
        ctx.ranks, ctx.count = ranks, len(rows)
        return ranks.gather(rows).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch's
        start = ctx.ranks.rank * ctx.count
        return ctx.ranks.sum(gradients[0].contiguous())[start : start + ctx.count], None


def gathered(rows: Tensor, ranks: Ranks) -> Tensor:
    """Return the rows of all ranks [size * N, D].

    A gradient of a loss that every rank computes of them alike comes back `size` times as large, since what averages
    gradients over ranks divides by that.
    """
    if ranks.size == 1:
        return rows
    found: Tensor = _Gathered.apply(rows, ranks)  # type: ignore[no-untyped-call]
    return found


class _Enlarged(torch.autograd.Function):
    """The same numbers, with a gradient so many times as large."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, times: int) -> Tensor:  # noqa: ANN401 - torch's
        ctx.times = times
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch's
        return gradients[0] * ctx.times, None


class _CrossEntropy(torch.autograd.Function):
    """The mean cross entropy of logits whose columns are spread over the ranks; `targets` is -1 on all but one."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, ranks: Ranks) -> Tensor:  # noqa: ANN401 - torch's
        here = targets >= 0
        largest = ranks.max(logits.max(1).values)
        powers = torch.exp(logits - largest[:, None])
        total = ranks.sum(powers.sum(1))
        own = logits.gather(1, targets.clamp(min=0)[:, None])[:, 0]
        right = ranks.sum(torch.where(here, own, torch.zeros_like(own)))
        ctx.save_for_backward(powers.div_(total[:, None]), targets)
        return (torch.log(total) + largest - right).mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401 - torch's
        shares, targets = ctx.saved_tensors
        rows = torch.nonzero(targets >= 0)[:, 0]
        wanted = shares.clone()
        wanted[rows, targets[rows]] -= 1
        return wanted * (gradients[0] / len(targets)), None, None


class Centres(nn.Module):
    """This rank's part of the identities' directions, [identities of this rank, D]."""

    def __init__(self, embedding_size: int, identities: int, ranks: Ranks, *, margin: MarginName, seed: int) -> None:
        super().__init__()
        self.ranks, self.mine, self.margin = ranks, ranks.share(identities), margin
        # Rows of length one: only their direction counts, and shorter ones would turn too fast. Each identity's row
        # is drawn from a seed of its own, so that any number of ranks begins with the same ones.
        rows = (np.random.default_rng([seed, 5, number]).standard_normal(embedding_size) for number in self.mine)
        drawn = np.fromiter(rows, np.dtype((np.float32, embedding_size)), len(self.mine))
        self.weight = nn.Parameter(torch.from_numpy(drawn) * embedding_size**-0.5)
        self.adaface = AdaFace() if margin == "adaface" else None

    def forward(
        self, embeddings: Tensor, labels: Tensor, *, scale: float, margin: float, chosen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the loss over the batch of all ranks, and the share of this rank's images that were told right.

        `embeddings` [N, D] and `labels` [N] are this rank's; `chosen` are the rows of this part that are used.
        """
        size = self.ranks.size
        batch = gathered(embeddings, self.ranks)
        labels = self.ranks.gather(labels).flatten()
        rows = self.weight if chosen is None else self.weight[chosen]
        lengths = batch.detach().norm(dim=1)
        seen = _Enlarged.apply(batch, size) if size > 1 else batch  # type: ignore[no-untyped-call]
        cosines = functional.linear(functional.normalize(seen), functional.normalize(rows))
        targets = self._targets(labels, chosen)
        logits = scale * self._with_margin(cosines, targets, margin, lengths)
        loss: Tensor = _CrossEntropy.apply(logits, targets, self.ranks)  # type: ignore[no-untyped-call]
        return loss, self._right(cosines.detach(), targets)

    def choose(self, labels: Tensor, share: float, seed: list[int]) -> Tensor | None:
        """Return the rows of this part that a batch is held against: those of its own identities, and others.

        All of them (None) for a share of 1. `labels` are of all ranks.
        """
        if share >= 1:
            return None
        count = max(1, round(share * len(self.mine)))
        own = torch.unique(labels[(labels >= self.mine.start) & (labels < self.mine.stop)]) - self.mine.start
        order = torch.from_numpy(np.random.default_rng([*seed, self.ranks.rank]).permutation(len(self.mine)))
        others = order[~torch.isin(order, own.cpu())].to(labels.device)
        return torch.cat([own, others[: max(0, count - len(own))]]).sort().values

    def _targets(self, labels: Tensor, chosen: Tensor | None) -> Tensor:
        """Return the column of each label among this rank's, or -1."""
        mine = (labels >= self.mine.start) & (labels < self.mine.stop)
        places = labels - self.mine.start
        if chosen is not None:
            places = torch.searchsorted(chosen, places.clamp(0, len(self.mine) - 1))
        return torch.where(mine, places, torch.full_like(places, -1))

    def _with_margin(self, cosines: Tensor, targets: Tensor, margin: float, lengths: Tensor) -> Tensor:
        places = targets.clamp(min=0)[:, None]
        right = cosines.gather(1, places)[:, 0]
        if self.adaface is not None:
            widened = self.adaface(right, margin, lengths)
        else:
            widened = (cosface if self.margin == "cosface" else arcface)(right, margin)
        return cosines.scatter(1, places, torch.where(targets >= 0, widened, right)[:, None])

    def _right(self, cosines: Tensor, targets: Tensor) -> Tensor:
        """Return the share of the whole batch whose own identity is the nearest of all."""
        nearest = cosines.max(1)
        best = self.ranks.max(nearest.values.clone())
        right = (targets >= 0) & (nearest.indices == targets) & (nearest.values >= best)
        return self.ranks.sum(right.float()).clamp(max=1).mean()
