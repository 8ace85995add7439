"""The program that `evidence.load` starts: it imports ONNX Runtime once and loads each file in a fork of its own.

It imports as little else as can be, since what is imported counts as held before a load. A fork finds the memory of its
parent, but not the pages of the libraries' files that the parent has read: they are read again before the load, so that
they do not count as its own.
"""

import contextlib
import ctypes
import json
import mmap
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime

from qface_toolkit.runtimes.latency import time_once
from qface_toolkit.untrusted.limits import peak_memory_bytes

LONGEST_S = 600
_MOST_TOLD = 1 << 12
_PRESENT = 0x80
"""The bit of a page that is in memory, in the last byte of its entry in /proc/self/pagemap."""


def main() -> None:
    """Read from standard input what to load, [[file, signed], ...], and print for each what it took, a line of JSON.

    `signed` lets signed activations run on integers, as elsewhere here. A file that failed is not tried again.
    """
    pages, failed = list(_pages_of_files()), set[str]()
    for file, signed in json.load(sys.stdin):
        told = {} if file in failed else _apart(file, signed, pages)
        if "error" in told:
            failed.add(file)
        sys.stdout.write(json.dumps(told) + "\n")


def _apart(file: str, signed: bool, pages: list[int]) -> dict[str, Any]:
    """Load a file in a fork of this process and return what it tells, or how it ended."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(LONGEST_S)
        os.write(writes, json.dumps(_loaded(file, signed, pages)).encode()[:_MOST_TOLD])
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        said = pipe.read()
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        told: dict[str, Any] = json.loads(said)
    except ValueError:
        return {"error": f"the process ended with exit code {ended}"}
    return told


def _loaded(file: str, signed: bool, pages: list[int]) -> dict[str, Any]:
    """Return the milliseconds and bytes of a load, or the runtime's error; `pages` are read first."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if signed:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    for page in pages:
        ctypes.string_at(page, 1)
    sessions, bare = [], peak_memory_bytes()
    try:
        taken_ms = time_once(
            lambda: sessions.append(onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"]))
        )
    except Exception as error:  # noqa: BLE001 - the runtime's errors have no common type, and each is only told
        return {"error": f"{type(error).__name__}: {error}"[: _MOST_TOLD // 8]}
    return {"ms": taken_ms, "bytes": peak_memory_bytes() - bare}


def _pages_of_files() -> Iterator[int]:
    """Yield the addresses of the pages of files that this process has in memory, where Linux tells them."""
    with contextlib.suppress(OSError), Path("/proc/self/pagemap").open("rb") as table:
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, access, _, _, inode = line.split()[:5]
            first, last = (int(end, 16) for end in span.split("-"))
            if inode == "0" or "r" not in access:
                continue
            table.seek(first // mmap.PAGESIZE * 8)
            entries = table.read((last - first) // mmap.PAGESIZE * 8)
            yield from (first + place * mmap.PAGESIZE for place, bits in enumerate(entries[7::8]) if bits & _PRESENT)
