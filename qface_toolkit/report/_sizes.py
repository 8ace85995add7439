"""What each file weighs, in the four ways that people mean by size, and what loading it takes: for every page."""

from collections.abc import Iterator

from qface_toolkit.report._markup import escape, markdown_table
from qface_toolkit.report.figures import NOTHING, clean, megabytes, milliseconds
from qface_toolkit.report.schema import ArtifactFigures, Report

TITLE = "Sizes, and what loading takes"
HEADINGS = ("file", "bits", "nominal MB", "payload MB", "file MB", "zipped MB", "load ms", "load MB")
_KINDS = ("nominal_bytes", "payload_bytes", "size_bytes", "compressed_bytes")
_REFERENCE = "float.onnx"
SHORT_MEANING = "nominal: parameters x bits / 8; payload: tensors only; %: of float.onnx's own"
_MEANING = (
    "nominal: parameters x bits / 8, as papers count; bits: of a parameter, on average",
    "payload: the tensors inside the file, scales included, without the graph",
    "file: on the disk; zipped: deflated, as an app's package holds it",
    f"in brackets: share of the same figure of {_REFERENCE}",
)
_LOADING = (
    "load: one thread, a new process each time, the median; load MB: rise of its peak memory, the runtime's own part "
    "included"
)


def size_rows(report: Report) -> list[list[str]]:
    """Return the rows of the table, none for a report of a time when only bytes on the disk were known."""
    if not any(one.nominal_bytes or one.payload_bytes or one.compressed_bytes for one in report.artifacts):
        return []
    return [[clean(one.name), *size_cells(one, report), *load_cells(one)] for one in report.artifacts]


def size_cells(artifact: ArtifactFigures, report: Report, form: str = "{} ({} %)") -> list[str]:
    """Return the mean bits of a parameter, and the four sizes in millions of bytes, each with its share of float."""
    reference = next((one for one in report.artifacts if one.name == _REFERENCE), None)
    bits = NOTHING if artifact.weight_bits_mean is None else f"{artifact.weight_bits_mean:.3g}"
    return [bits, *(_cell(getattr(artifact, kind), getattr(reference, kind, None), form) for kind in _KINDS)]


def load_cells(artifact: ArtifactFigures) -> tuple[str, str]:
    """Return the time and the memory of loading a file."""
    if artifact.load_ms is None or artifact.load_memory_bytes is None:
        return NOTHING, NOTHING
    return milliseconds(artifact.load_ms), f"{artifact.load_memory_bytes / 1e6:.1f}"


def size_notes(report: Report) -> Iterator[str]:
    """Yield what the columns mean, and which files were not loaded."""
    yield from _MEANING
    if any(one.load_ms is not None for one in report.artifacts):
        yield _LOADING
    for one in report.artifacts:
        if one.load_missing:
            yield f"{clean(one.name)} was not loaded for this: {clean(one.load_missing)}"


def size_section(report: Report) -> list[str]:
    """Return the lines of the section in Markdown, none where a report has only bytes on the disk."""
    rows = [[escape(cell) for cell in row] for row in size_rows(report)]
    if not rows:
        return []
    notes = [f"- {escape(note)}" for note in size_notes(report)]
    return [f"## {TITLE}", "", *markdown_table(HEADINGS, rows), "", *notes]


def _cell(size: int | None, reference: int | None, form: str) -> str:
    if size is None or reference is None:
        return NOTHING if size is None else megabytes(size)
    return form.format(megabytes(size), "100" if size == reference else f"{100 * size / reference:.1f}")
