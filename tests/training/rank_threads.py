"""Ranks that are threads of one process: what processes exchange, without starting any."""

import collections
import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from qface_toolkit.ranks import Ranks


class RankThread(Ranks):
    """One of several ranks that meet at a table."""

    def __new__(cls, *args):
        return object.__new__(cls)

    def __init__(self, rank, size, table):
        super().__init__(rank, size, rank)
        object.__setattr__(self, "table", table)

    def gather(self, tensor):
        return torch.stack(self.table.meet(self.rank, tensor.detach().clone()))

    def wait(self):
        self.table.meet(self.rank, None)

    def _reduced(self, tensor, operation):
        told = self.gather(tensor)
        tensor.copy_(told.sum(0) if operation == "SUM" else told.max(0).values)
        return tensor


class Table:
    """Where the ranks lay down what they have, and pick up what all have."""

    def __init__(self, size):
        self.laid = collections.defaultdict(lambda: [None] * size)
        self.rounds = [0] * size
        self.barrier = threading.Barrier(size, timeout=20)

    def meet(self, rank, thing):
        places = self.laid[self.rounds[rank]]
        places[rank] = thing
        self.rounds[rank] += 1
        self.barrier.wait()
        return list(places)


def in_threads(size, work):
    """Return what `work(ranks)` returns on each of so many ranks."""
    table = Table(size)

    def one(rank):
        return work(RankThread(rank, size, table))

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))
