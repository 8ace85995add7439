"""How much memory this process has held, told without importing anything that would itself weigh."""

import re
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_memory_bytes() -> int:
    """Return the most memory this process has held.

    Linux is asked for the process's own mark: `ru_maxrss` there starts from that of the process which started this one.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text("utf-8"), re.MULTILINE) if STATUS.exists() else None
    if found:
        return int(found[1]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
