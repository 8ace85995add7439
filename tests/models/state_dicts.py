"""Key and shape lists of public checkpoints, and state dicts made after them: facts that our modules did not make.

A list is called as the architecture that it must be recognised as. Its first line tells where it is from, how many
parameters and entries there are and, where a paper says so, how many multiplications of convolutions and matrices.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

FACTS = Path(__file__).with_name("facts")


@dataclass(frozen=True)
class Fact:
    """One list: its shapes, and what its first line says."""

    shapes: dict[str, tuple[int, ...]]
    parameters: int
    entries: int
    million_multiplications: float | None


def read_fact(name: str) -> Fact:
    first, *lines = (FACTS / f"{name}.tsv").read_text().splitlines()
    pairs = (line.split("\t") for line in lines)
    shapes = {key: tuple(int(size) for size in shape.split("x") if size.strip()) for key, shape in pairs}
    counts = {word: int(re.search(rf"{word} (\d+)", first)[1]) for word in ("parameters", "entries")}
    published = re.search(r"million multiplications ([\d.]+)", first)
    return Fact(shapes, **counts, million_multiplications=float(published[1]) if published else None)


def random_state(shapes: dict[str, tuple[int, ...]], *, seed: int = 0) -> dict[str, Tensor]:
    """Return tensors of these shapes that make a network whose activations neither die nor explode."""
    generator = torch.Generator().manual_seed(seed)
    return {key: _random(key, shape, generator) for key, shape in shapes.items()}


def _random(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.tensor(1000)
    if key.endswith("running_var"):
        return 0.5 + torch.rand(shape, generator=generator)
    if len(shape) > 1:
        fan_in = torch.Size(shape[1:]).numel()
        return torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
    return 0.25 + 0.1 * torch.randn(shape, generator=generator)
