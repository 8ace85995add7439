"""The processes of one job: alone, or as many as torchrun started, each with a rank from 0; rank 0 leads and writes.

torchrun tells a process its rank by its environment. Collectives run on gloo, and on NCCL where tensors are on GPUs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from qface_toolkit.environment import usable_cores
from qface_toolkit.errors import RanksError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """Who this process is among `size`; `local` counts on its machine, `restarts` how often torchrun began anew."""

    rank: int = 0
    size: int = 1
    local: int = 0
    restarts: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return which of `count` things are this rank's: a run of neighbours, as long as others' give or take one."""
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def sum(self, tensor: "Tensor") -> "Tensor":
        """Add a tensor over all ranks, in place, and return it."""
        return self._reduced(tensor, "SUM")

    def max(self, tensor: "Tensor") -> "Tensor":
        """Take the largest over all ranks, in place, and return it."""
        return self._reduced(tensor, "MAX")

    def gather(self, tensor: "Tensor") -> "Tensor":
        """Return the tensors of all ranks, which are of one shape, in the order of ranks: [size, ...]."""
        import torch

        if self.size == 1:
            return tensor[None]
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.size)]
        torch.distributed.all_gather(parts, tensor.contiguous())
        return torch.stack(parts)

    def tell(self, data: bytes) -> bytes:
        """Return on every rank what rank 0 has to tell."""
        import torch

        if self.size == 1:
            return data
        length = int(self.gather(torch.tensor(len(data)))[0])
        told = torch.zeros(length, dtype=torch.uint8)
        if self.leads:
            told = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        torch.distributed.broadcast(told, 0)
        return told.numpy().tobytes()

    def wait(self) -> None:
        """Wait until all ranks are here."""
        import torch

        if self.size > 1:
            torch.distributed.barrier()

    def _reduced(self, tensor: "Tensor", operation: str) -> "Tensor":
        import torch

        if self.size > 1:
            torch.distributed.all_reduce(tensor, getattr(torch.distributed.ReduceOp, operation))
        return tensor

    def check_same(self, what: str, sha256: str, device: str = "cpu") -> None:
        """Refuse to go on where ranks do not have the same, by its SHA-256 in hexadecimal.

        Raises:
            RanksError: on every rank, naming those that differ from rank 0.
        """
        import torch

        told = self.gather(torch.tensor(list(bytes.fromhex(sha256)), dtype=torch.uint8, device=device))
        others = [rank for rank in range(1, self.size) if not torch.equal(told[rank], told[0])]
        if others:
            named = ", ".join(map(str, others))
            fix = "give every machine the same files, installation and command, then start them again"
            raise RanksError(f"not all processes have the same {what}", where=f"rank {named} beside rank 0", fix=fix)


ALONE = Ranks()
_BROKEN = ("closed by peer", "Connection reset", "Broken pipe", "gloo", "NCCL")
"""What torch says where a process waits for one that is gone."""
_BEGINNING = timedelta(minutes=2)
"""How long the ranks may take to find each other."""
_PATIENCE = timedelta(days=1)
"""How long a rank waits for the others: rank 0 may draw, measure or judge for hours."""


def told_ranks() -> Ranks:
    """Return who this process is, as torchrun's environment says; alone without it.

    Raises:
        RanksError: if the environment makes no sense.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT")
    if not os.environ.get("TORCHELASTIC_RUN_ID"):
        return ALONE
    try:
        rank, size, local, restarts = (int(os.environ.get(name, "0")) for name in names)
    except ValueError as error:
        raise RanksError("torchrun's variables hold no numbers", where=", ".join(names), fix="start again") from error
    return Ranks(rank, size, local, restarts)


def threads_of_one() -> int:
    """Return how many threads a process takes where nothing is said: the cores, shared by those on this machine."""
    told = os.environ.get("LOCAL_WORLD_SIZE", "")
    beside = int(told) if told.isdecimal() and told_ranks().size > 1 else 1
    return max(1, usable_cores() // max(1, beside))


@contextmanager
def joined_ranks(device: Literal["cpu", "cuda"] = "cpu") -> Iterator[Ranks]:
    """Join the other processes for the block, if torchrun started any."""
    ranks = told_ranks()
    if ranks.size == 1:
        yield ranks
        return
    import torch

    if torch.distributed.is_initialized():
        yield ranks
        return
    if device == "cuda":
        torch.cuda.set_device(ranks.local)
    # Beginning is quick, or never comes: then torchrun is to begin again.
    torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_BEGINNING)
    torch.distributed.distributed_c10d._set_pg_timeout(_PATIENCE)
    try:
        yield ranks
    except RuntimeError as error:
        if not any(word in str(error) for word in _BROKEN):
            raise
        what = "another process of this job has ended"
        raise RanksError(what, where=f"rank {ranks.rank}", fix="see what that one says") from error
    finally:
        torch.distributed.destroy_process_group()
