"""Training a face network from labelled crops: how the embedded demo model came to be.

Additive angular margin (ArcFace, Deng et al. 2019, section 3) and SGD, or Adam where gradients differ much from layer
to layer. Every random choice is derived from the seed, the epoch and the step, never from what was drawn before, so a
run that was stopped and resumed ends with the same weights as one that was not (for the same number of threads).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from qface_toolkit.errors import ArtifactError


@dataclass(frozen=True)
class ArcFaceOptions:
    """How to train: `margin` in radians, `learning_rate` at its peak, shifts in pixels, pixels scaled by `std`.

    Telling thousands of unseen classes apart gives a small network nothing but noise to learn from at first. So where
    traits of the identities are known, predicting them from the embedding leads: `trait_weight` times that error falls
    to zero over the run, while the ArcFace loss rises to its full weight within `class_epochs`. Where a teacher's
    embeddings are known, `teacher_weight` times one minus the cosine to them is added: that needs the fewest images.
    """

    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    scale: float = 32.0
    margin: float = 0.35
    margin_epochs: float = 3.0
    warmup_epochs: float = 0.5
    trait_weight: float = 0.0
    teacher_weight: float = 0.0
    class_epochs: float = 0.0
    largest_shift: int = 2
    mirrored: bool = True
    mean: float = 127.5
    std: float = 128.0
    optimizer: Literal["sgd", "adamw"] = "sgd"
    seed: int = 0


@dataclass(frozen=True)
class LabelledCrops:
    """What is learnt from: crops uint8 [N, 112, 112, 3] and whose they are [N].

    If known: traits [identities, K], and the embeddings that a teacher gives the crops, [N, D].
    """

    crops: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    traits: npt.NDArray[np.float32] | None = None
    teacher: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Progress:
    """Where training stands after a step; the figures are those of the step's batch."""

    epoch: int
    step: int
    steps: int
    loss: float
    accuracy: float
    trait_error: float
    teacher_error: float


class ArcFaceHead(nn.Module):
    """One direction for each identity and a linear guess at its traits; thrown away after training."""

    def __init__(self, embedding_size: int, identities: int, traits: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(identities, embedding_size))
        # Rows of length one: only their direction counts, and shorter ones would turn too fast.
        nn.init.normal_(self.weight, std=embedding_size**-0.5)
        self.guess = nn.Linear(embedding_size, traits) if traits else None

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the cosine of each embedding to each identity's direction, [N, identities]."""
        return functional.linear(functional.normalize(embeddings), functional.normalize(self.weight))


@dataclass
class _Run:
    network: nn.Module
    head: ArcFaceHead
    optimizer: torch.optim.Optimizer
    data: LabelledCrops
    options: ArcFaceOptions


def train(
    network: nn.Module,
    data: LabelledCrops,
    options: ArcFaceOptions,
    *,
    embedding_size: int,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    epoch_done: Callable[[int, nn.Module], None] = lambda epoch, network: None,
) -> None:
    """Train `network` in place and leave it in evaluation mode.

    With `checkpoint`, the state is kept there after each epoch, and an existing file is continued.

    Raises:
        ArtifactError: if the checkpoint was written with other options.
    """
    head = _seeded_head(data, embedding_size, options.seed)
    run = _Run(network, head, _optimizer(network, head, options), data, options)
    for epoch in range(_restore(run, checkpoint), options.epochs):
        _train_epoch(run, epoch, report)
        _save(run, checkpoint, epoch + 1)
        epoch_done(epoch + 1, network)
    network.eval()


def _train_epoch(run: _Run, epoch: int, report: Callable[[Progress], None]) -> None:
    options, count = run.options, len(run.data.crops)
    run.network.train()
    order = np.random.default_rng([options.seed, 1, epoch]).permutation(count)
    steps = count // options.batch_size
    for step in range(steps):
        chosen = np.sort(order[step * options.batch_size : (step + 1) * options.batch_size])
        rng = np.random.default_rng([options.seed, 2, epoch, step])
        figures = _step(run, chosen, rng, epoch + step / steps)
        report(Progress(epoch, step + 1, steps, *figures))


def _step(
    run: _Run, chosen: npt.NDArray[np.int64], rng: np.random.Generator, passed: float
) -> tuple[float, float, float, float]:
    options, labels = run.options, torch.from_numpy(run.data.labels[chosen])
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate_at(passed, options)
    embeddings = run.network(augmented(run.data.crops[chosen], options, rng))
    cosines = run.head(embeddings)
    margin = options.margin * min(1.0, passed / max(options.margin_epochs, 1e-9))
    loss = arcface_loss(cosines, labels, scale=options.scale, margin=margin)
    error, distance = _trait_error(run, embeddings, labels), _teacher_error(run, embeddings, chosen)
    share = options.trait_weight * _falling(passed / options.epochs)
    rise = min(1.0, 0.1 + 0.9 * passed / options.class_epochs) if options.class_epochs else 1.0
    run.optimizer.zero_grad(set_to_none=True)
    (rise * loss + share * error + options.teacher_weight * distance).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_([*run.network.parameters(), *run.head.parameters()], 5.0)
    run.optimizer.step()
    right = (cosines.argmax(1) == labels).float().mean()
    return float(loss.detach()), float(right), float(error.detach()), float(distance.detach())


def _trait_error(run: _Run, embeddings: Tensor, labels: Tensor) -> Tensor:
    if run.head.guess is None or run.data.traits is None:
        return torch.zeros(())
    wanted = torch.from_numpy(run.data.traits)[labels]
    return functional.mse_loss(run.head.guess(embeddings), wanted)


def _teacher_error(run: _Run, embeddings: Tensor, chosen: npt.NDArray[np.int64]) -> Tensor:
    if run.data.teacher is None:
        return torch.zeros(())
    wanted = torch.from_numpy(run.data.teacher[chosen])
    return 1 - functional.cosine_similarity(embeddings, wanted).mean()


def arcface_loss(cosines: Tensor, labels: Tensor, *, scale: float, margin: float) -> Tensor:
    """Return the mean cross entropy after the right identity's angle was widened by `margin` radians.

    Past pi - margin the cosine would rise again; there a straight line goes on falling.
    """
    target = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
    sine = torch.sqrt(1 - target * target)
    turn = torch.tensor(margin)
    widened = target * torch.cos(turn) - sine * torch.sin(turn)
    beyond = target < -torch.cos(turn)
    widened = torch.where(beyond, target - margin * torch.sin(turn), widened)
    return functional.cross_entropy(cosines.scatter(1, labels[:, None], widened) * scale, labels)


def learning_rate_at(passed: float, options: ArcFaceOptions) -> float:
    """Return the learning rate after `passed` epochs: a linear rise, then half a cosine down to zero."""
    if passed < options.warmup_epochs:
        return options.learning_rate * (passed + 0.01) / (options.warmup_epochs + 0.01)
    return options.learning_rate * _falling((passed - options.warmup_epochs) / (options.epochs - options.warmup_epochs))


def _falling(share: float) -> float:
    return float(0.5 * (1 + np.cos(np.pi * share)))


def augmented(crops: npt.NDArray[np.uint8], options: ArcFaceOptions, rng: np.random.Generator) -> Tensor:
    """Return the crops shifted, and if wanted mirrored, at random and scaled, float32 [N, 3, 112, 112]."""
    reach, size = options.largest_shift, crops.shape[1]
    padded = np.pad(crops, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    moved = np.empty_like(crops)
    for index in range(len(crops)):
        top, left, mirror = (int(value) for value in rng.integers(0, (2 * reach + 1, 2 * reach + 1, 2)))
        crop = padded[index, top : top + size, left : left + size]
        moved[index] = crop[:, ::-1] if mirror and options.mirrored else crop
    pixels = torch.from_numpy(moved).permute(0, 3, 1, 2)
    return (pixels.float() - options.mean) / options.std


def _seeded_head(data: LabelledCrops, embedding_size: int, seed: int) -> ArcFaceHead:
    traits = 0 if data.traits is None else data.traits.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ArcFaceHead(embedding_size, int(data.labels.max()) + 1, traits)


def _optimizer(network: nn.Module, head: ArcFaceHead, options: ArcFaceOptions) -> torch.optim.Optimizer:
    # Scales, shifts and slopes are one-dimensional: pulling them to zero switches channels off.
    parameters = [*network.parameters(), *head.parameters()]
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    kept = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=options.learning_rate)
    return torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum, nesterov=True)


def _save(run: _Run, checkpoint: Path | None, epochs: int) -> None:
    if checkpoint is None:
        return
    state = {
        "epochs": epochs,
        "network": run.network.state_dict(),
        "head": run.head.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "options": asdict(run.options),
    }
    partial = checkpoint.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(checkpoint)


def _restore(run: _Run, checkpoint: Path | None) -> int:
    if checkpoint is None or not checkpoint.exists():
        return 0
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    if state["options"] != asdict(run.options):
        raise ArtifactError(
            "this training state was written with other options",
            where=str(checkpoint),
            fix="give the same options, or remove the file to start again",
        )
    run.network.load_state_dict(state["network"])
    run.head.load_state_dict(state["head"])
    run.optimizer.load_state_dict(state["optimizer"])
    return int(state["epochs"])
