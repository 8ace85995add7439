"""Train a narrow iResNet18 and a narrow PocketNet-S on drawn identities: no trained checkpoint of either is at hand.

    python benchmarks/train_shapes.py --work /tmp/shapes

Depth, blocks and input are the published ones; only the channels are fewer. The embedded demo model, which learnt from
drawn identities alone, is the teacher: labels and attributes take many times the images. Each becomes a checkpoint in
--work that `qface compress` takes. A run that was stopped goes on after its last whole epoch and ends with the same
bytes; `score_shapes.py` says what int8 costs these networks. `--network NAME` trains one of them alone.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from train_demo import (
    SEED,
    TEST_IDENTITIES,
    TEST_IMAGES,
    TEST_SEED,
    drawn_set,
    embed,
    training_drawings,
    training_options,
    verify,
)

from qface_toolkit.models import load_model
from qface_toolkit.models.iresnet import IResNetPlan
from qface_toolkit.models.pocketnet import PocketNetPlan
from qface_toolkit.training.arcface import ArcFaceOptions, LabelledCrops, Progress, train

ORIGIN = "trained by benchmarks/train_shapes.py on drawn identities; knows only drawings"
IMAGES_EACH = 8
WATCHED = 50 * TEST_IMAGES
"""How many held-out drawings are embedded after each epoch."""


@dataclass(frozen=True)
class Shape:
    """A network to train, and on how many identities for how long: what one thread does in less than 25 minutes."""

    plan: IResNetPlan | PocketNetPlan
    identities: int
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Literal["sgd", "adamw"] = "sgd"


SHAPES = {
    "iresnet18-16": Shape(
        IResNetPlan(blocks=(2, 2, 2, 2), widths=(16, 32, 64, 128), stem=16, embedding_size=128),
        identities=1600,
        epochs=3,
        batch_size=32,
        learning_rate=0.1,
    ),
    "pocketnet-s-8": Shape(
        PocketNetPlan(width=8, cells=18, embedding_size=128, head=256),
        identities=800,
        epochs=2,
        batch_size=16,
        # The gradients of its first cells are a hundred times those of its last.
        learning_rate=0.003,
        optimizer="adamw",
    ),
}


class QuickPReLU(nn.PReLU):
    """PReLU in operations whose gradients are vectorised; torch's own takes a third of PocketNet's training."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        return functional.relu(x) - self.weight.view(-1, 1, 1) * functional.relu(-x)


def quicken(network: nn.Module) -> None:
    """Replace every fresh PReLU; the state dict keeps its keys."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.PReLU):
                setattr(parent, name, QuickPReLU(child.num_parameters))


def options_for(shape: Shape) -> ArcFaceOptions:
    """Return the demo model's options, but led by a teacher that saw the same pixels, which are scaled as published."""
    wanted = argparse.Namespace(epochs=shape.epochs, batch_size=shape.batch_size, learning_rate=shape.learning_rate)
    return replace(
        training_options(wanted),
        trait_weight=0.0,
        teacher_weight=20.0,
        class_epochs=10.0 * shape.epochs,  # so few epochs teach nothing about single identities
        largest_shift=0,
        optimizer=shape.optimizer,
        std=127.5,
    )


def taught(data: LabelledCrops, file: Path) -> LabelledCrops:
    """Return the set with the demo model's embeddings of the crops, kept in `file`."""
    if not file.exists():
        demo = load_model("demo")
        embeddings = embed(demo.network, data.crops, ArcFaceOptions(mean=demo.spec.mean[0], std=demo.spec.std[0]))
        unfinished = file.with_suffix(".partial.npy")
        np.save(unfinished, embeddings)
        unfinished.replace(file)
    teacher: npt.NDArray[np.float32] = np.load(file)
    return LabelledCrops(data.crops, data.labels, teacher=teacher)


def first_identities(data: LabelledCrops, count: int, images: int) -> LabelledCrops:
    """Return the first identities of a set that has `images` of each."""
    known = None if data.teacher is None else data.teacher[: count * images]
    return LabelledCrops(data.crops[: count * images], data.labels[: count * images], teacher=known)


def train_shape(
    name: str,
    shape: Shape,
    data: LabelledCrops,
    work: Path,
    report: Callable[[Progress], None] = lambda progress: None,
    epoch_done: Callable[[int, nn.Module], None] = lambda epoch, network: None,
) -> Path:
    """Train a network, or finish what a stopped run began, and return the checkpoint written to `work`."""
    torch.manual_seed(SEED)
    network = shape.plan.build()
    quicken(network)
    # torch's type stubs leave this argument out; the layout is a third faster on a processor. Fewer than 16 channels
    # in iResNet would need the other one: torch 2.13 crashes in the gradient of a strided 1x1 convolution of 8.
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    options, size, state = options_for(shape), shape.plan.embedding_size, work / f"{name}.pt"
    train(network, data, options, embedding_size=size, checkpoint=state, report=report, epoch_done=epoch_done)
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    unfinished, written = work / f"{name}.unfinished", work / f"{name}.safetensors"
    # One fact only: safetensors writes several in an order of its own, another one each time.
    save_file(weights, unfinished, metadata={"origin": ORIGIN})
    unfinished.replace(written)
    return written


def train_aloud(name: str, work: Path) -> None:
    """Train one of SHAPES and print how it goes."""
    shape, started = SHAPES[name], time.perf_counter()
    most = max(each.identities for each in SHAPES.values())
    drawings = taught(
        training_drawings(argparse.Namespace(work=work, identities=most, images=IMAGES_EACH)), work / "teacher.npy"
    )
    watched = drawn_set(work / "test.npy", "heldout", TEST_IDENTITIES, TEST_IMAGES, TEST_SEED)[:WATCHED]

    def say(what: object) -> None:
        print(f"{name} {time.perf_counter() - started:.0f} s {what}", flush=True)

    def tell(progress: Progress) -> None:
        if progress.step % 20 == 0:
            say(progress)

    def measure(epoch: int, network: nn.Module) -> None:
        say(f"after epoch {epoch}: {verify(network, watched, options_for(shape))}")

    data = first_identities(drawings, shape.identities, IMAGES_EACH)
    say(train_shape(name, shape, data, work, tell, measure))


def main() -> None:
    """Train what was asked for, one network after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for drawings, training state and checkpoints")
    parser.add_argument("--network", choices=sorted(SHAPES), action="append")
    parser.add_argument("--threads", type=int, default=1)
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    wanted.work.mkdir(parents=True, exist_ok=True)
    for name in wanted.network or SHAPES:
        train_aloud(name, wanted.work)


if __name__ == "__main__":
    main()
