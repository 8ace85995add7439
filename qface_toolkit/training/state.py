"""What a training needs to go on where it was: weights, optimizer, averages and figures, as bytes that hold no code.

Each rank has a file of its own: its part of the identities' directions is on no other. Whoever writes the files sees to
it that a kill leaves a whole set of them.
"""

import io
import json
import pickle
from typing import Any

import torch
from torch import Tensor, nn

from qface_toolkit.errors import ArtifactError

Tree = dict[str, Any]


def state_bytes(tensors: Tree, values: Tree) -> bytes:
    """Return nested dictionaries and lists of tensors and plain values as bytes; `values` are those JSON can hold."""
    buffer = io.BytesIO()
    torch.save({"tensors": tensors, "values": json.dumps(values)}, buffer)
    return buffer.getvalue()


def read_state(data: bytes, where: str) -> tuple[Tree, Tree]:
    """Return the tensors and values of `state_bytes`; no code of the file is run.

    Raises:
        ArtifactError: if they are damaged.
    """
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return loaded["tensors"], json.loads(loaded["values"])
    except (RuntimeError, ValueError, KeyError, TypeError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        what = "the state of this training is damaged"
        raise ArtifactError(what, where=where, fix="start again with --force") from error


def plain_state(module: nn.Module | None) -> Tree:
    """Return the state of a module under the keys that it has without wrappers, on the CPU."""
    return {} if module is None else {key: value.detach().cpu() for key, value in module.state_dict().items()}


class Average:
    """A running average of a network's weights and statistics, which is steadier than the last step's."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.kept = {key: value.detach().clone() for key, value in network.state_dict().items()}
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards a network as it is now; at first faster, so that the beginning is soon forgotten."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in network.state_dict().items():
            kept = self.kept[key]
            if kept.is_floating_point():
                kept.lerp_(value, 1 - decay)
            else:
                kept.copy_(value)

    def state(self) -> Tree:
        """Return what to keep."""
        return {key: value.cpu() for key, value in self.kept.items()}

    def restore(self, kept: dict[str, Tensor], steps: int) -> None:
        """Go on from what was kept."""
        self.steps = steps
        for key, value in kept.items():
            self.kept[key].copy_(value)
