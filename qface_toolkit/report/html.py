"""report.html: one file for a manager's first screen and an engineer's evidence, with no script and no address outside.

Every text from outside goes through jinja2's escaping. What shows the page may not load or run anything: its own policy
forbids it.
"""

import base64
import io
from importlib import resources

import jinja2
from PIL import Image

from qface_toolkit.errors import ArtifactError
from qface_toolkit.report._cards import cards, signs
from qface_toolkit.report._evaluation import Evaluation
from qface_toolkit.report._evidence import evidence
from qface_toolkit.report._headline import verdict
from qface_toolkit.report._origin import calibration, loading, provenance, repetition
from qface_toolkit.report._page import Photo, Section
from qface_toolkit.report.figures import clean
from qface_toolkit.report.schema import CalibrationUsed, Report

PAGE = "report.html"
SHEET_SIDE = 960
"""Pixels; the whole sheet stands beside the page, and is larger."""
_SHEET_QUALITY = 60


def to_html(report: Report, *, calibration_png: bytes | None = None, evaluation: Evaluation | None = None) -> str:
    """Return the page of a report; the same report gives the same page.

    `calibration_png` is the contact sheet, which is shown only if it holds drawings: a page is sent around, and what
    somebody else's folder holds may be faces. `evaluation` is one of a file of the report.

    Raises:
        ArtifactError: if the contact sheet is no picture.
    """
    sheet = _sheet(calibration_png, report.calibration) if calibration_png is not None else None
    sections: list[Section] = [*evidence(report, evaluation), calibration(report.calibration, sheet)]
    sections += [loading(report), provenance(report), repetition(report)]
    return (
        _environment()
        .get_template(PAGE)
        .render(
            name=clean(report.source.name, 80),
            verdict=verdict(report, evaluation),
            cards=cards(report, evaluation),
            signs=signs(report, evaluation),
            sections=sections,
            version=clean(report.environment.versions.get("qface_toolkit", ""), 40),
        )
    )


def _environment() -> jinja2.Environment:
    folder = resources.files("qface_toolkit.report") / "templates"
    texts = {file.name: file.read_text("utf-8") for file in folder.iterdir() if file.name.startswith("report.")}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(texts),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    return environment


def _sheet(png: bytes, used: CalibrationUsed) -> Photo | None:
    """Return the contact sheet, made small, or None where it may show somebody's face."""
    if used.contains_no_real_face_data is not True:
        return None
    try:
        with Image.open(io.BytesIO(png)) as picture:
            small = picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ArtifactError("the contact sheet is no picture", where="calibration.png", fix="make it again") from error
    small.thumbnail((SHEET_SIDE, SHEET_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=_SHEET_QUALITY, method=6)
    address = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    caption = f"Some of the {used.count} drawings that the model was calibrated on; none shows a person."
    return Photo(address, *small.size, caption)
