"""Read a page as a browser would, strictly: every element that opens closes, in order; and a screen of 80 columns."""

from html.parser import HTMLParser

from rich.console import Console

from qface_toolkit.report import render

VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text in them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append((self.open[-1] if self.open else "", data))

    @property
    def tags(self):
        return {tag for tag, _ in self.elements}

    @property
    def text(self):
        """All that is written on the page, words one space apart."""
        return " ".join(" ".join(data for _, data in self.texts).split())

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def ids(self):
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]

    def headings(self):
        return [int(tag[1]) for tag, _ in self.elements if tag in ("h1", "h2", "h3", "h4", "h5", "h6")]


def shown(report):
    """Return what the terminal shows of a report."""
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(render(report))
    return captured.get()
