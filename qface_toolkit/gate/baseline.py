"""What is compared: a report and its baseline, read from a file or a result's folder, and refused for another model.

An evaluation lies beside a report as evaluation.json, and beside a baseline called x.json as x.evaluation.json.
"""

from dataclasses import dataclass
from pathlib import Path

from qface_toolkit.errors import ArtifactError
from qface_toolkit.report import Evaluation, Report, read_evaluation, read_report
from qface_toolkit.report._evaluation import EvaluatedModel
from qface_toolkit.result.manifest import MANIFEST

REPORT = "report.json"
EVALUATION = "evaluation.json"
_HASH = 12


@dataclass(frozen=True)
class Judged:
    """A report, the evaluation that lies beside it if there is one, and the file that it stands in.

    `folder` holds the files that the report speaks of; None where a report was given alone.
    """

    report: Report
    path: Path
    evaluation: Evaluation | None = None
    folder: Path | None = None

    def has(self, model: EvaluatedModel) -> bool:
        """Tell whether a model that was evaluated is one of this report's files."""
        return model.sha256 in {one.sha256 for one in self.report.artifacts}


def open_report(place: Path) -> Judged:
    """Return the report in a file or in a result's folder, with evaluation.json from beside it.

    Raises:
        ArtifactError: if it is missing, damaged, or of a version that cannot be read.
    """
    path = place / REPORT if place.is_dir() else place
    if not path.is_file():
        fix = "give the report.json that `qface compress` wrote, or its folder"
        raise ArtifactError("there is no report here", where=str(path), fix=fix)
    beside, report = evaluation_beside(path), read_report(path)
    folder = path.parent if place.is_dir() or _has_files(path.parent, report) else None
    return Judged(report, path, read_evaluation(beside) if beside.is_file() else None, folder)


def _has_files(folder: Path, report: Report) -> bool:
    """Tell whether a report lies in a result's folder, or in what is left of one."""
    names = [one.name for one in report.artifacts if Path(one.name).name == one.name]
    return any((folder / name).is_file() for name in (MANIFEST, *names))


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


def evaluation_beside(path: Path) -> Path:
    """Return where the evaluation of a report, or of a baseline, lies."""
    return path.with_name(EVALUATION if path.name == REPORT else f"{path.stem}.{EVALUATION}")
