"""The processes of one job: alone, or as many as torchrun started, each with a rank from 0; rank 0 leads and writes.

torchrun tells a process its rank by its environment. Collectives run on gloo, and on NCCL where tensors are on GPUs.
"""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from qface_toolkit.environment import usable_cores
from qface_toolkit.errors import RanksError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store


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
_BROKEN = ("closed by peer", "wait timeout", "Connection reset", "Broken pipe", "gloo", "NCCL")
"""What torch says where a process waits for one that is gone."""
_BEGINNING = timedelta(minutes=2)
"""How long the ranks may take to find each other."""
_WORD = "qface/word"
_ANSWER = timedelta(seconds=1)
"""Where rank 0 lays down its word, and how long another one waits for the answer before it looks again."""
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
    try:
        _begin(ranks, device)
        # Of an agent on another machine this one may not know that it has begun anew.
        restarts = int(ranks.max(torch.tensor(ranks.restarts, device=device)))
        yield replace(ranks, restarts=restarts)
    except RuntimeError as error:
        if not any(word in str(error) for word in _BROKEN):
            raise
        what = "another process of this job has ended"
        raise RanksError(what, where=f"rank {ranks.rank}", fix="see what that one says") from error
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _begin(ranks: Ranks, device: str) -> None:
    """Connect the ranks, or fail within minutes, so that torchrun can begin again."""
    import torch
    from torch.distributed.rendezvous import rendezvous

    if device == "cuda":
        torch.cuda.set_device(ranks.local)
    store, _, _ = next(iter(rendezvous("env://", timeout=_BEGINNING)))
    met = meeting_place(store, ranks)
    backend = "nccl" if device == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, store=met, rank=ranks.rank, world_size=ranks.size, timeout=_BEGINNING)
    torch.distributed.distributed_c10d._set_pg_timeout(_PATIENCE)


def meeting_place(store: "Store", ranks: Ranks, patience: timedelta = _BEGINNING) -> "Store":
    """Return a part of the store that the ranks of this beginning share, and none of one that failed before.

    torchrun's agent keeps its store when it begins anew, with the addresses of processes that are gone. So rank 0 lays
    down a word that was never there, each other rank one of its own beneath it, and they look until the rank 0 whose
    word they found has answered theirs: one that is gone does not.

    Raises:
        RuntimeError: if the others do not come in time.
    """
    from torch.distributed.distributed_c10d import PrefixStore

    word, others = secrets.token_hex(16), [f"word of {rank}" for rank in range(1, ranks.size)]
    if ranks.leads:
        own = PrefixStore(word, store)
        store.set(_WORD, word)
        own.wait(others, patience)
        for other in others:
            own.set(own.get(other).decode(), "")
        return own
    end = time.monotonic() + patience.total_seconds()
    while True:
        # Not there before the first rank 0 comes; a dead one's until the next one comes.
        store.wait([_WORD], patience)
        own = PrefixStore(store.get(_WORD).decode(), store)
        own.set(f"word of {ranks.rank}", word)
        try:
            own.wait([word], _ANSWER)
            return own
        except RuntimeError:
            if time.monotonic() > end:
                raise
