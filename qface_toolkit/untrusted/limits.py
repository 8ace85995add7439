"""How much memory this process has held, and bounds of memory and time for running a file that is not trusted.

Nothing heavy is imported here before it is needed: what is imported counts as held.
"""

import contextlib
import ctypes
import re
import resource
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qface_toolkit.errors import ArtifactError

if TYPE_CHECKING:
    import onnxruntime

STATUS = Path("/proc/self/status")
MEMORY_BYTES = 4 << 30
LONGEST_RUN_S = 60.0


def peak_memory_bytes() -> int:
    """Return the most memory this process has held.

    Linux is asked for the process's own mark: `ru_maxrss` there starts from that of the process which started this one.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text("utf-8"), re.MULTILINE) if STATUS.exists() else None
    if found:
        return int(found[1]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def give_back_memory() -> None:
    """Give the system what was freed but kept: in pieces, it is of no use to whoever needs other sizes next."""
    # Only glibc has it; elsewhere memory is handled as it always was.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def limited_memory(path: Path, extra_bytes: int = MEMORY_BYTES) -> Iterator[None]:
    """Let the block have this much more memory; asking for more is an ArtifactError and not the end of the machine."""
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    wanted = pages * resource.getpagesize() + extra_bytes
    lowest = min(limit for limit in (wanted, before, hard) if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_AS, (lowest, hard))
    try:
        yield
    except MemoryError as error:
        what = f"it wants more than {extra_bytes >> 30} GiB of memory"
        raise ArtifactError(what, where=str(path), fix="no face network does; do not trust the file") from error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


@contextlib.contextmanager
def limited_time() -> Iterator["onnxruntime.RunOptions"]:
    """Give options under which runs end after LONGEST_RUN_S, with an error of the runtime's."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    timer = threading.Timer(LONGEST_RUN_S, _end, [options])
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()


def _end(options: "onnxruntime.RunOptions") -> None:
    options.terminate = True
