"""Make a plot part of a page: its letters and lines take the page's colours, so that it is read by day and by night."""

import re
from xml.etree import ElementTree

from markupsafe import Markup

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


def inline_svg(picture: bytes, key: str, title: str, said: str) -> Markup:
    """Return an SVG file of ours as an element of a page: `key` keeps its ids apart, the rest is for who cannot see it.

    The numbers of a plot are read from the tables beside it, so `said` is one sentence.
    """
    root = ElementTree.fromstring(picture)
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in _DROPPED]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = {_plain(name): _kept(name, value, key) for name, value in element.attrib.items()}
    kept = {"class": "plot", "viewBox": root.attrib["viewBox"], "role": "img"}
    root.attrib = {**kept, "aria-labelledby": f"{key}-title {key}-desc"}
    for place, (tag, text) in enumerate((("title", title), ("desc", said))):
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
