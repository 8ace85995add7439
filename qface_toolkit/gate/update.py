"""Write a report as the new baseline: without what no check reads, so that it is small enough to be committed."""

from pathlib import Path

from qface_toolkit._disk import disk_errors, write_json
from qface_toolkit.errors import ArtifactError
from qface_toolkit.gate._accuracy import how_to_evaluate
from qface_toolkit.gate.baseline import REPORT, Judged, check_same_model, evaluation_beside, open_report
from qface_toolkit.gate.files import file_findings
from qface_toolkit.gate.timing import Timing
from qface_toolkit.report import read_evaluation, write_report
from qface_toolkit.result.manifest import MANIFEST

_UNREAD = ("parity", "sensitivity", "budget")
_UNREAD_OF_EVALUATION = {"reference_figures", "paired", "groups"}
"""Blocks that no check reads; they are the larger part, and of an evaluation they name images."""


def update_baseline(report: Judged, place: Path, timing: Timing | None = None, *, force: bool = False) -> Path:
    """Write a report as the new baseline, with latencies that were measured anew if there are any; return the file.

    Its evaluation goes with it.

    Raises:
        ArtifactError: if files beside the report are not its own; if the place is a result's folder, whose report must
            stay what its manifest says; unless `force`, if it holds the baseline of another model, or one with an
            evaluation that would be lost; or if the disk refuses.
    """
    path = place / REPORT if place.is_dir() else place
    if path.with_name(MANIFEST).is_file() and path.name == REPORT:
        fix = "name another file, such as --baseline qface-baseline.json"
        raise ArtifactError("this is a result of `qface compress`, no place for a baseline", where=str(path), fix=fix)
    _check_files(report)
    if path.exists() and not force:
        _check_replaceable(report, open_report(path))
    found = timing.put_into(report.report) if timing else report.report
    artifacts = tuple(one.model_copy(update={"cost": None}) for one in found.artifacts)
    kept = found.model_copy(update=dict.fromkeys(_UNREAD) | {"commands": (), "artifacts": artifacts})
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_report(kept, path)
        _put_evaluation(report, evaluation_beside(path))
    return path


def _check_files(report: Judged) -> None:
    wrong = [f"{one.artifact}: {one.said}" for one in file_findings(report) if one.outcome == "failed"]
    if report.evaluation is not None and not report.has(report.evaluation.model):
        wrong.append(f"{report.evaluation.model.name}: its evaluation is that of another file; evaluate again")
    if wrong:
        what = f"these files are not those that were measured, so they make no baseline: {'; '.join(wrong)}"
        raise ArtifactError(what, where=str(report.path), fix="mend the folder first, or compress again")


def _check_replaceable(report: Judged, old: Judged) -> None:
    check_same_model(report, old)
    lost = old.evaluation if report.evaluation is None else None
    if lost is not None and not report.has(lost.model):
        fix = f"{how_to_evaluate(lost, report.folder)}, or lose it by --update --force"
        raise ArtifactError("the baseline has an evaluation, this report none", where=str(old.path), fix=fix)


def _put_evaluation(report: Judged, place: Path) -> None:
    """Write the report's evaluation, or remove one that is not of its files."""
    if report.evaluation is not None:
        write_json(place, report.evaluation.model_dump(mode="json", exclude=_UNREAD_OF_EVALUATION))
    elif place.is_file() and not _is_of(report, place):
        place.unlink()


def _is_of(report: Judged, evaluation: Path) -> bool:
    try:
        return report.has(read_evaluation(evaluation).model)
    except ArtifactError:
        return False
