"""A report and its baseline: opened, held against the files beside them, and written anew.

An evaluation lies beside a report as evaluation.json, and beside a baseline called x.json as x.evaluation.json.
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from qface_toolkit.errors import ArtifactError
from qface_toolkit.gate.latency import Timing
from qface_toolkit.gate.verdict import Finding
from qface_toolkit.report import Evaluation, Report, read_evaluation, read_report, write_report
from qface_toolkit.report.evaluation import EvaluatedModel
from qface_toolkit.result.manifest import MANIFEST, FileRecord, is_intact, read_manifest
from qface_toolkit.untrusted.json import write_json
from qface_toolkit.untrusted.writing import disk_errors

REPORT = "report.json"
EVALUATION = "evaluation.json"
FIGURE = "sha256"
EVERY_FILE = "all files"
MODELS = (".onnx", ".ts", ".safetensors")
Records = Mapping[str, FileRecord]
_HASH = 12
_ALONE = "only a report was given, so no file was compared with its hash; give the result's folder"
_AGAIN = "copy the folder again, or make it again"
_UNREAD = ("parity", "sensitivity", "budget")
_UNREAD_OF_EVALUATION = {"reference_figures", "paired", "groups"}
"""Blocks that no check reads; they are the larger part, and of an evaluation they name images."""
_HOW_EVALUATED = {
    "drawings": ["--synthetic"],
    "people": ["--faces", "DIR"],
    "pairs": ["--pairs", "FILE"],
    "ijb": ["--ijb", "DIR"],
}


@dataclass(frozen=True)
class OpenedReport:
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


def open_report(place: Path) -> OpenedReport:
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
    return OpenedReport(report, path, read_evaluation(beside) if beside.is_file() else None, folder)


def _has_files(folder: Path, report: Report) -> bool:
    """Tell whether a report lies in a result's folder, or in what is left of one."""
    names = [one.name for one in report.artifacts if Path(one.name).name == one.name]
    return any((folder / name).is_file() for name in (MANIFEST, *names))


def open_baseline(place: Path) -> OpenedReport:
    """Return a baseline as `open_report` returns a report.

    Raises:
        ArtifactError: the same, or saying how a baseline is made.
    """
    path = place / REPORT if place.is_dir() else place
    if not path.is_file():
        fix = "write one: qface check REPORT --baseline FILE --update"
        raise ArtifactError("there is no baseline here", where=str(path), fix=fix)
    return open_report(place)


def check_same_model(report: OpenedReport, baseline: OpenedReport) -> None:
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


def file_findings(opened: OpenedReport) -> Iterator[Finding]:
    """Return a finding on each file that is missing, changed or unknown, and one on all that are as they should be.

    Figures of other files say nothing of these. Hashes find damage and mistakes, not malice: a folder whose report,
    manifest and files were all changed to fit each other is what `qface verify` looks at.

    Raises:
        ArtifactError: if the disk refuses.
    """
    if opened.folder is None:
        yield Finding(EVERY_FILE, FIGURE, "not looked at", _ALONE)
        return
    reported = {one.name: FileRecord(sha256=one.sha256, size_bytes=one.size_bytes) for one in opened.report.artifacts}
    listed, mistake = _in_manifest(opened.folder)
    with disk_errors(opened.folder):
        wrong = {MANIFEST: mistake} if mistake else {}
        wrong |= _wrong(opened.folder, listed, reported)
        there = [one.name for one in sorted(opened.folder.iterdir()) if one.suffix in MODELS]
    known = {**listed, **reported}
    yield from (Finding(name, FIGURE, "failed", said) for name, said in wrong.items())
    for name in dict.fromkeys((*there, *([] if mistake else [opened.path.name]))):
        if name not in known:
            yield Finding(name, FIGURE, "not looked at", "neither the report nor the manifest knows this file")
    if right := len(known.keys() - wrong.keys()):
        yield Finding(EVERY_FILE, FIGURE, "passed", f"{right} files are those of the report and the manifest")


def _in_manifest(folder: Path) -> tuple[Records, str]:
    """Return what the manifest says of files, or why it cannot be used."""
    try:
        return read_manifest(folder).files, ""
    except ArtifactError as error:
        return {}, f"{error.what}; {error.fix or _AGAIN}"


def _wrong(folder: Path, listed: Records, reported: Records) -> dict[str, str]:
    """Return what is wrong with each file that is."""
    said = {name: _damage(folder, name, listed.get(name), reported.get(name)) for name in {**listed, **reported}}
    return {name: wrong for name, wrong in said.items() if wrong}


def _damage(folder: Path, name: str, listed: FileRecord | None, reported: FileRecord | None) -> str | None:
    file = folder / name
    if Path(name).name != name or not file.is_file():
        return f"it is missing; {_AGAIN}"
    if listed and not is_intact(file, listed):
        return f"it is not the file that the manifest speaks of; {_AGAIN}"
    if reported and not (listed == reported or is_intact(file, reported)):
        return "it is not the file that was measured for the report; compress again, or export under another name"
    return None


def update_baseline(report: OpenedReport, place: Path, timing: Timing | None = None, *, force: bool = False) -> Path:
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


def _check_files(report: OpenedReport) -> None:
    wrong = [f"{one.artifact}: {one.said}" for one in file_findings(report) if one.outcome == "failed"]
    if report.evaluation is not None and not report.has(report.evaluation.model):
        wrong.append(f"{report.evaluation.model.name}: its evaluation is that of another file; evaluate again")
    if wrong:
        what = f"these files are not those that were measured, so they make no baseline: {'; '.join(wrong)}"
        raise ArtifactError(what, where=str(report.path), fix="mend the folder first, or compress again")


def _check_replaceable(report: OpenedReport, old: OpenedReport) -> None:
    check_same_model(report, old)
    lost = old.evaluation if report.evaluation is None else None
    if lost is not None and not report.has(lost.model):
        fix = f"{how_to_evaluate(lost, report.folder)}, or lose it by --update --force"
        raise ArtifactError("the baseline has an evaluation, this report none", where=str(old.path), fix=fix)


def _put_evaluation(report: OpenedReport, place: Path) -> None:
    """Write the report's evaluation, or remove one that is not of its files."""
    if report.evaluation is not None:
        write_json(place, report.evaluation.model_dump(mode="json", exclude=_UNREAD_OF_EVALUATION))
    elif place.is_file() and not _is_of(report, place):
        place.unlink()


def _is_of(report: OpenedReport, evaluation: Path) -> bool:
    try:
        return report.has(read_evaluation(evaluation).model)
    except ArtifactError:
        return False


def how_to_evaluate(like: Evaluation, folder: Path | None) -> str:
    """Return how to make a result's evaluation on the set of another one."""
    place = str(folder or "RESULT")
    given = [*_HOW_EVALUATED[like.data.kind], "--flip" if like.flip else "--no-flip", "--out", place, "--force"]
    told = f"run `{shlex.join(['qface', 'evaluate', place, *given])}`"
    return f"{told} (the baseline's was made by `{like.command}`)" if like.command else told
