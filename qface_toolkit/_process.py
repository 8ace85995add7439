"""How this process behaves beside others, settled before anything heavy is imported: its threads and its memory."""

import contextlib
import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Of glibc's mallopt: how much freed memory at its end the heap keeps, and how many allocations live outside it."""

_SPINS = "2000"
"""Of GNU's OpenMP, some microseconds: see what was tried with `qface train` in benchmarks/README.md."""


def settle_process(*, spinning: bool = False) -> None:
    """Make this process good company, and quick: its idle threads sleep, and freed memory is used again.

    OpenMP's threads spin while they wait, and beside a busy process all of them then wait for the core that one of them
    lost: OMP_WAIT_POLICY is set unless the user has set it, which must happen before torch is imported. GNU's threads
    still spin for some microseconds, which most waits take: a training on a free machine was a fifth faster with it.
    With `spinning` all stays as it is, for timing several threads. glibc gives every large tensor back to the system
    and zeroes it anew; with larger batches that takes longer than the arithmetic.
    """
    if not spinning and "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    # Only glibc has it; elsewhere memory is handled as it always was.
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
