"""report.html: one file for a manager's first screen and an engineer's evidence, with no script and no address outside.

Every text from outside goes through jinja2's escaping. What shows the page may not load or run anything: its own policy
forbids it.
"""

import base64
import io
import re
from importlib import resources
from xml.etree import ElementTree

import jinja2
from markupsafe import Markup
from PIL import Image

from qface_toolkit.environment import Environment
from qface_toolkit.errors import ArtifactError
from qface_toolkit.report.evaluation import Evaluation
from qface_toolkit.report.figures import clean
from qface_toolkit.report.first_screen import cards, signs
from qface_toolkit.report.page import Notes, Photo, Plot
from qface_toolkit.report.schema import CalibrationUsed, Report
from qface_toolkit.report.sections import report_sections
from qface_toolkit.report.summary import verdict
from qface_toolkit.report.training import TRAINING, Training
from qface_toolkit.report.training_sections import training_sections
from qface_toolkit.report.training_verdict import training_cards, training_signs, training_verdict

PAGE = "report.html"
SHEET_SIDE = 960
"""Pixels; the whole sheet stands beside the page, and is larger."""
_SHEET_QUALITY = 60
_HIDDEN = Notes(("The images are not shown here: only drawings are.",))
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_COLORS = {
    "#000000": "currentColor",
    "#ffffff": "var(--page)",
    "#b0b0b0": "var(--line)",
    "#555555": "var(--float)",
    "#0072b2": "var(--int8)",
    "#d55e00": "var(--other)",
}
"""What the plots are drawn in -> what the style sheet calls it."""
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DROPPED = {f"{_SVG}style", f"{_SVG}metadata"}


def to_html(report: Report, *, calibration_png: bytes | None = None, evaluation: Evaluation | None = None) -> str:
    """Return the page of a report; the same report gives the same page.

    `calibration_png` is the contact sheet, which is shown only if it holds drawings: a page is sent around, and what
    somebody else's folder holds may be faces. `evaluation` is one of a file of the report.

    Raises:
        ArtifactError: if the contact sheet is no picture.
    """
    sheet = _sheet(calibration_png, report.calibration) if calibration_png is not None else None
    return _rendered(
        report.environment,
        name=clean(report.source.name, 80),
        made="compressed",
        source="report.json",
        verdict=verdict(report, evaluation),
        cards=cards(report, evaluation),
        signs=signs(report, evaluation),
        sections=report_sections(report, evaluation, sheet or _HIDDEN),
    )


def training_html(training: Training) -> str:
    """Return the page of a training; the same training gives the same page."""
    return _rendered(
        training.environment,
        name=clean(training.student.name, 80),
        made="trained",
        source=TRAINING,
        verdict=training_verdict(training),
        cards=training_cards(training),
        signs=training_signs(training),
        sections=training_sections(training),
    )


def _rendered(made_by: Environment, **shown: object) -> str:
    version = clean(made_by.versions.get("qface_toolkit", ""), 40)
    return _environment().get_template(PAGE).render(version=version, **shown)


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
    environment.filters["svg"] = inline_svg
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


def inline_svg(plot: Plot) -> Markup:
    """Return a plot as an element of a page, by day and by night: its letters and lines take the page's colours.

    The plot's key keeps its ids apart from those of others.
    """
    key, root = plot.key, ElementTree.fromstring(plot.draw())
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in _DROPPED]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = {_plain(name): _kept(name, value, key) for name, value in element.attrib.items()}
    kept = {"class": "plot", "viewBox": root.attrib["viewBox"], "role": "img"}
    root.attrib = {**kept, "aria-labelledby": f"{key}-title {key}-desc"}
    for place, (tag, text) in enumerate((("title", plot.caption), ("desc", plot.said))):
        element = ElementTree.Element(tag, {"id": f"{key}-{tag}"})
        element.text = text
        root.insert(place, element)
    # What stands in the tree as text was escaped when it was written here.
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=False))  # noqa: S704


def _plain(name: str) -> str:
    return name.removeprefix(_XLINK).removeprefix(_SVG)


def _kept(name: str, value: str, key: str) -> str:
    if name == "id":
        return f"{key}-{value}"
    if name == f"{_XLINK}href":
        return f"#{key}-{value.removeprefix('#')}"
    value = _REFERENCE.sub(rf"url(#{key}-\1)", value)
    if name == "style":
        for drawn, shown in _COLORS.items():
            value = value.replace(drawn, shown)
    return value
