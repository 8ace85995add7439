"""Write what a CI system reads, whole or not at all, and the verdict as plain values."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from qface_toolkit._disk import append_to, disk_errors, write_inside
from qface_toolkit.gate.verdict import Verdict
from qface_toolkit.gate.words import headline


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
    """Return the verdict as the one object that `--json` prints.

    `outcome` is passed, failed or inconclusive; `said` the headline; `compared` and `total` count figures; `skipped`
    are the findings on figures that were not compared or could not be told from noise, each with its reason in `said`;
    `unchecked` is what no check was asked for (`what`, `why`); `findings` has every figure, `notes` sentences.
    """
    counted = {"compared": verdict.compared, "total": len(verdict.findings)}
    skipped = [asdict(one) for one in verdict.skipped]
    return {"outcome": verdict.outcome, "said": headline(verdict), **counted, "skipped": skipped, **asdict(verdict)}
