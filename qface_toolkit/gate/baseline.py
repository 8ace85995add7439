"""What a report is compared with: read from a file or a result's folder, refused for another model, and written anew.

A baseline is a report without what no check reads, so that it is small enough to be committed. An evaluation lies
beside a report as evaluation.json, and beside a baseline called x.json as x.evaluation.json.
"""

from dataclasses import dataclass
from pathlib import Path

from qface_toolkit._disk import disk_errors, write_json
from qface_toolkit._manifest import MANIFEST
from qface_toolkit.errors import ArtifactError
from qface_toolkit.gate.timing import Timing
from qface_toolkit.report import Evaluation, Report, read_evaluation, read_report, write_report

REPORT = "report.json"
EVALUATION = "evaluation.json"
_HASH = 12
_UNREAD = ("parity", "sensitivity", "budget")
"""Blocks of a report that no check reads; they are the larger part of it."""


@dataclass(frozen=True)
class Judged:
    """A report, the evaluation that lies beside it if there is one, and the file that it stands in."""

    report: Report
    path: Path
    evaluation: Evaluation | None = None


def open_report(place: Path) -> Judged:
    """Return the report in a file or in a result's folder, with evaluation.json from beside it.

    Raises:
        ArtifactError: if it is missing, damaged, or of a version that cannot be read.
    """
    path = place / REPORT if place.is_dir() else place
    if not path.is_file():
        fix = "give the report.json that `qface compress` wrote, or its folder"
        raise ArtifactError("there is no report here", where=str(path), fix=fix)
    beside = _evaluation_beside(path)
    return Judged(read_report(path), path, read_evaluation(beside) if beside.is_file() else None)


def open_baseline(place: Path) -> Judged:
    """Return a baseline as `open_report` returns a report.

    Raises:
        ArtifactError: the same, or saying how a baseline is made.
    """
    path = place / REPORT if place.is_dir() else place
    if not path.is_file():
        fix = "write one: qface check REPORT --baseline FILE --update"
        raise ArtifactError("there is no baseline here", where=str(path), fix=fix)
    return open_report(place)


def check_same_model(report: Judged, baseline: Judged) -> None:
    """Check that both reports speak of one float model.

    Raises:
        ArtifactError: if they do not: nothing that is said of one could be compared with the other.
    """
    now, before = report.report.source, baseline.report.source
    if now.sha256 == before.sha256:
        return
    what = (
        f"the baseline is that of another model: it was made from {before.name!r} ({before.sha256[:_HASH]}), "
        f"the report from {now.name!r} ({now.sha256[:_HASH]})"
    )
    fix = "give this model's own baseline, or make the report's the new one: add --update --force"
    raise ArtifactError(what, where=str(baseline.path), fix=fix)


def update_baseline(report: Judged, place: Path, timing: Timing | None = None, *, force: bool = False) -> Path:
    """Write a report as the new baseline, with latencies that were measured anew if there are any; return the file.

    Raises:
        ArtifactError: if the place holds the baseline of another model (unless `force`), is a result's folder, whose
            report must stay what its manifest says, or cannot be written.
    """
    path = place / REPORT if place.is_dir() else place
    if path.with_name(MANIFEST).is_file() and path.name == REPORT:
        fix = "name another file, such as --baseline qface-baseline.json"
        raise ArtifactError("this is a result of `qface compress`, no place for a baseline", where=str(path), fix=fix)
    if path.exists() and not force:
        check_same_model(report, open_report(path))
    found = timing.put_into(report.report) if timing else report.report
    artifacts = tuple(one.model_copy(update={"cost": None}) for one in found.artifacts)
    kept = found.model_copy(update=dict.fromkeys(_UNREAD) | {"commands": (), "artifacts": artifacts})
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_report(kept, path)
    if report.evaluation is not None:
        with disk_errors(path):
            write_json(_evaluation_beside(path), report.evaluation.model_dump(mode="json"))
    return path


def _evaluation_beside(path: Path) -> Path:
    return path.with_name(EVALUATION if path.name == REPORT else f"{path.stem}.{EVALUATION}")
