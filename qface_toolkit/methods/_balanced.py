"""Where the search for channel factors begins: at a point that does not depend on how a network is written.

The same function can be written with any channel a thousand times larger, and a search of few steps would not undo it.
So it begins where every channel reaches the same end of its range, less what its readers' weights pay for that: a
reader with one scale for all of its inputs loses precision by a channel whose weights have become much smaller than the
largest. The two are balanced as in cross-layer equalization (arXiv 1906.04721, section 4.1), in units that neither a
factor of the channel nor one of the reader's outputs changes.
"""

from collections.abc import Iterable

import torch

FARTHEST = 20.0
"""How far a logarithm may be from the middle one: beyond, float32 ends."""


def balanced_start(
    reach: torch.Tensor,
    readers: Iterable[tuple[torch.Tensor, torch.Tensor]],
    free: torch.Tensor,
    tensors: Iterable[torch.Tensor] = (),
) -> torch.Tensor:
    """Return the log factor of each class, [classes]; 0 for those that are not `free`.

    `reach` [classes] is the largest magnitude that any channel of a class has. `readers` are the layers whose outputs
    read several channels with one scale: the magnitudes of their weights [O, I] and the class of each, [O, I].
    `tensors` are the classes of each tensor's channels, [C]: where some are bound, the others are balanced with them.
    """
    seen, column = reach > 0, torch.zeros_like(reach)
    for magnitudes, classes in readers:
        largest = (magnitudes * reach[classes]).amax(1, keepdim=True)
        parts = torch.where(largest > 0, magnitudes / largest.clamp_min(torch.finfo().tiny), 0.0)
        column = column.scatter_reduce(0, classes.flatten(), parts.flatten(), "amax")
    # A channel that no image excites says nothing of its reach; its weights shall be no larger than others' in a row.
    read = column > 0
    alive = torch.where(read, (column / reach).sqrt(), 1 / reach)
    factors = torch.where(seen, alive, torch.where(read, column, 1.0)).log()
    known = seen | read
    if not bool((free & known).any()):
        return torch.zeros_like(reach)
    middle = factors[free & known].median().repeat(len(reach))
    for classes in tensors:
        bound = classes[~free[classes] & known[classes]]
        if bound.numel():
            middle[classes] = factors[bound].median()
    return torch.where(free & known, (factors - middle).clamp(-FARTHEST, FARTHEST), 0.0)
