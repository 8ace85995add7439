"""What people read of a result: pages made of report.json, and of evaluation.json where somebody judged a file."""

from pathlib import Path

from qface_toolkit.errors import ArtifactError
from qface_toolkit.report import Evaluation, Report, read_report, to_markdown
from qface_toolkit.report.html import PAGE, to_html
from qface_toolkit.report.model_card import to_model_card
from qface_toolkit.report.sensitivity import PLOT, sensitivity_plot
from qface_toolkit.result.manifest import MANIFEST, add_files, alone_in
from qface_toolkit.result.names import CARD, REPORT, SHEET, TEXT


def report_pages(report: Report, sheet: bytes) -> dict[str, bytes]:
    """Return every page of a report and the picture beside them, by name; `sheet` is the contact sheet as PNG."""
    return {**_judged_pages(report, sheet, None), **plot_file(report)}


def _judged_pages(report: Report, sheet: bytes, evaluation: Evaluation | None) -> dict[str, bytes]:
    """Return the pages that tell of accuracy, too."""
    page = to_html(report, calibration_png=sheet, evaluation=evaluation)
    pages = {PAGE: page, TEXT: to_markdown(report, evaluation), CARD: to_model_card(report, evaluation)}
    return {name: text.encode() for name, text in pages.items()}


def plot_file(report: Report) -> dict[str, bytes]:
    """Return the picture that a report needs beside it, by its name, if it needs one."""
    return {PLOT: sensitivity_plot(report.sensitivity)} if report.sensitivity else {}


def is_result(folder: Path) -> bool:
    """Tell whether a folder is a finished result, which knows all its files."""
    return (folder / MANIFEST).is_file() and (folder / REPORT).is_file()


def add_evaluation(folder: Path, found: Evaluation, files: dict[str, bytes]) -> None:
    """Put the files of an evaluation into the result whose file was judged, and make its pages anew.

    Raises:
        ArtifactError: if what was judged is no file of the result, or the disk refuses; all is then as it was.
    """
    with alone_in(folder):
        report = read_report(folder / REPORT)
        if found.model.sha256 not in {one.sha256 for one in report.artifacts}:
            what = f"{found.model.name} is no file of this result as it was reported"
            raise ArtifactError(what, where=str(folder), fix="write the evaluation somewhere else, by --out")
        sheet = (folder / SHEET).read_bytes()
        add_files(folder, files | _judged_pages(report, sheet, found), {})
