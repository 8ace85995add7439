"""Write what a CI system reads, whole or not at all, and the verdict as plain values."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from qface_toolkit._disk import append_to, disk_errors, write_inside
from qface_toolkit.gate.verdict import Verdict


def write_page(path: Path, page: bytes, *, append: bool = False) -> None:
    """Write a page, or add it to what other steps of a job have written.

    Raises:
        ArtifactError: if the disk does not let us.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if append:
            append_to(path, page)
        else:
            write_inside(path.parent, path.name, page)


def verdict_values(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as the one object that `--json` prints."""
    return {"outcome": verdict.outcome, **asdict(verdict)}
