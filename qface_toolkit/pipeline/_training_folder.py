"""Where a training keeps what it needs to go on: states of all ranks and a snapshot an epoch, each whole or absent."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from qface_toolkit.errors import ArtifactError, TrainingError
from qface_toolkit.models import FloatModel, student_bytes
from qface_toolkit.ranks import Ranks
from qface_toolkit.result.folder import WORK, OutputFolder
from qface_toolkit.untrusted.reading import read_file
from qface_toolkit.untrusted.writing import disk_errors, write_inside

STATE, _EPOCH = "state", "epoch"


class TrainingFolder:
    """The states and snapshots of a training in OUT.partial; rank 0 has the folder, the others know where it is."""

    def __init__(
        self,
        partial: Path,
        folder: OutputFolder | None,
        ranks: Ranks,
        student: FloatModel,
        *,
        images_sha256: str,
        snapshots: bool,
    ) -> None:
        self.partial, self.folder, self.ranks = partial, folder, ranks
        self.student, self.images_sha256, self.snapshots = student, images_sha256, snapshots

    def load(self) -> tuple[bytes, str] | None:
        """Return the last whole state of this rank and where it stands, or None; see Keeper."""
        latest = self._latest()
        step = int(latest.partition(" ")[2]) if latest else 0
        step = int(self.ranks.gather(torch.tensor([step]).to(_device(self.ranks)))[0])
        if not step:
            return None
        path = self.partial / _state_name(step, self.ranks.rank)
        with disk_errors(path):
            size = path.stat().st_size
        return read_file(path, size, noun="state of a training", kind=ArtifactError), str(path)

    def _latest(self) -> str | None:
        """Return the last state's step on rank 0; of a training on other images there is none to go on from."""
        latest = self.folder.latest(STATE) if self.folder else None
        if self.folder and latest and self.folder.notes(latest)["images"] != self.images_sha256:
            what = "the images are not those that this training began with"
            raise TrainingError(what, where=str(self.partial), fix="bring them back, or start over with --force")
        return latest

    def save(self, step: int, state: bytes) -> None:
        """Keep the states of all ranks, and drop those before once all are there; see Keeper."""
        name = _state_name(step, self.ranks.rank)
        with disk_errors(self.partial):
            write_inside(self.partial, name, state)
        self.ranks.wait()
        if self.folder is None:
            return
        before = self.folder.latest(STATE)
        for rank in range(self.ranks.size):
            self.folder.adopt(_state_name(step, rank))
        self.folder.mark(f"{STATE} {step}", {"images": self.images_sha256})
        if before is not None:
            self.folder.forget(before)

    def snapshot(self, epoch: int, network: nn.Module) -> str:
        """Keep the network of an epoch as a checkpoint of its own, and return its name; see Keeper."""
        if not self.snapshots:
            return ""
        name = _snapshot_name(epoch)
        if self.folder is None:
            return name
        if self.folder.done(f"{_EPOCH} {epoch}"):
            # Of a process that was killed before its state was written: this one has learnt the epoch again.
            self.folder.forget(f"{_EPOCH} {epoch}")
        model = replace(self.student, network=network)
        self.folder.write(name, student_bytes(model, f"epoch {epoch} of a training by qface"))
        self.folder.mark(f"{_EPOCH} {epoch}", alone=True)
        return name

    def kept(self) -> str:
        """Return where the last snapshot stands, or an empty text; see Keeper."""
        latest = self.folder.latest(_EPOCH) if self.folder else None
        return "" if latest is None else str(self.partial / _snapshot_name(int(latest.partition(" ")[2])))


def _snapshot_name(epoch: int) -> str:
    return f"epoch-{epoch:03d}.safetensors"


def _state_name(step: int, rank: int) -> str:
    return f"{WORK}state-{step}-rank-{rank}.pt"


def _device(ranks: Ranks) -> torch.device:
    nccl = ranks.size > 1 and torch.distributed.get_backend() == "nccl"
    return torch.device("cuda" if nccl else "cpu")
