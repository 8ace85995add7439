"""Write the head-to-head's tables and plot into the documents, from the committed result and nothing else.

    python benchmarks/tables.py            # after benchmarks/results/head_to_head.json has changed

The tables stand between the marks `<!-- head-to-head:begin -->` and `<!-- head-to-head:end -->`, and the five rows that
the front page has between `headline` ones, in the documents that have them. A test fails when they or the plot are not
what the result says.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from plot import NETWORKS, write_plot

HERE = Path(__file__).resolve().parent
RESULT, PLOT = HERE / "results" / "head_to_head.json", HERE / "results" / "head_to_head.png"
DOCUMENTS = (HERE / "README.md", HERE.parent / "README.md")
WHOLE, HEADLINE = "head-to-head", "headline"
TITLES = (
    "what",
    "calibrated on",
    "KB",
    "ms",
    "times faster",
    "load, ms",
    "memory, MB",
    "ms, 2 threads",
    "images/s",
    "cosine mean / p1",
    "worst tone",
    "pair accuracy",
    "TAR 1e-4",
    "minutes",
    "real faces",
)
HEADLINE_TITLES = ("file", "KB", "ms", "vs fast", "vs float", "cosine mean", "TAR 1e-4", "lost, points")
HEADLINE_MODEL, FAST = "prelu", "float.fast.onnx"
HEADLINE_ROWS = {
    "float.onnx": "float.onnx",
    FAST: FAST,
    "int8, int8.x86.onnx": "**int8.x86.onnx, this toolkit**",
    "quantize_static Percentile": "ONNX Runtime's quantize_static",
    "NNCF performance": "NNCF, in OpenVINO",
}
"""What the front page calls these rows. All that are calibrated, are so on drawings."""
Row = Mapping[str, Any]


def tables(result: Mapping[str, Any]) -> str:
    """Return a table of Markdown for each model of a result."""
    models = dict.fromkeys(row["model"] for row in result["rows"])
    return "\n\n".join(_table(model, [row for row in result["rows"] if row["model"] == model]) for model in models)


def _table(model: str, rows: Sequence[Row]) -> str:
    return f"**{NETWORKS.get(model, model)}**\n\n{_markdown(TITLES, map(_cells, rows), texts=2)}"


def _markdown(titles: Sequence[str], rows: Iterable[Sequence[str]], texts: int) -> str:
    """Return a table whose first columns, so many, are texts and whose others are figures."""
    lines = [titles, ["---" if place < texts else "---:" for place in range(len(titles))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def headline(result: Mapping[str, Any]) -> str:
    """Return the front page's table: five rows of one network, everything calibrated on drawings."""
    rows = {
        row["name"]: row
        for row in result["rows"]
        if row["model"] == HEADLINE_MODEL and row["name"] in HEADLINE_ROWS and row["images"] != "faces"
    }
    return _markdown(HEADLINE_TITLES, (_short(rows[name], rows[FAST]) for name in HEADLINE_ROWS), texts=1)


def _short(row: Row, fast: Row) -> list[str]:
    lost = row["tar_lost"]["1e-4"]
    value, low, high = (f"{lost[end] * 100:.2f}" for end in ("value", "low", "high"))
    return [
        HEADLINE_ROWS[row["name"]],
        f"{row['size_bytes'] / 1e3:,.0f}",
        f"{row['p50_ms']['value']:.2f}",
        f"{fast['p50_ms']['value'] / row['p50_ms']['value']:.2f}x",
        f"{row['times_faster']:.2f}x",
        f"{row['cosine_mean']:.4f}",
        f"{row['tar']['1e-4'] * 100:.2f}",
        "" if row["by"] == "float" else f"{value} ({low} to {high})",
    ]


def _cells(row: Row) -> list[str]:
    name = f"**{row['name']}**" if row["by"] == "qface_toolkit" else row["name"]
    images = {"none": "", "drawings": "drawings", "faces": "real faces"}[row["images"]]
    if "failed" in row:
        return [name, images, f"cannot run: {row['failed']}".replace("|", "/"), *[""] * (len(TITLES) - 3)]
    return [name, images, *_cost(row), *_accuracy(row), _made(row), str(row["real_faces"])]


def _cost(row: Row) -> list[str]:
    if row["simulation"]:
        return ["simulation, no file", *[""] * 6]
    time = row["p50_ms"]
    return [
        f"{row['size_bytes'] / 1e3:,.0f}",
        f"{time['value']:.2f} ({time['low']:.2f} to {time['high']:.2f})",
        f"{row['times_faster']:.2f}",
        f"{row['load_ms']:.0f}",
        f"{row['peak_memory_bytes'] / 1e6:.0f}",
        f"{row['p50_ms_2_threads']:.2f}" if "p50_ms_2_threads" in row else "",
        f"{row['images_per_s_batch_8']:.0f}",
    ]


def _accuracy(row: Row) -> list[str]:
    pairs = f"{row['pair_accuracy'] * 100:.2f}" if "pair_accuracy" in row else ""
    cosines = f"{row['cosine_mean']:.4f} / {row['cosine_p1']:.4f}"
    return [cosines, _worst_tone(row), pairs, f"{row['tar']['1e-4'] * 100:.2f}"]


def _worst_tone(row: Row) -> str:
    """Return how many times the average loss the skin tone loses that loses most; float loses nothing."""
    found = row.get("worst_tone")
    return "" if found is None or row["by"] == "float" else f"{found['loss_ratio']['value']:.2f}"


def _made(row: Row) -> str:
    return "" if row["by"] == "float" else f"{row['seconds_to_make'] / 60:.1f}"


def with_tables(document: str, result: Mapping[str, Any]) -> str:
    """Return a document with the tables between their marks; one without marks as it is."""
    if f"<!-- {HEADLINE}:begin -->" in document:
        document = between(document, HEADLINE, headline(result))
    return between(document, WHOLE, tables(result))


def between(document: str, mark: str, content: str) -> str:
    """Return a document with other content between two marks; one without them as it is."""
    before, begin, rest = document.partition(f"<!-- {mark}:begin -->")
    _, end, after = rest.partition(f"<!-- {mark}:end -->")
    return f"{before}{begin}\n{content}\n{end}{after}" if begin and end else document


def main() -> None:
    """Bring every document and the plot up to date."""
    result = json.loads(RESULT.read_text())
    for document in DOCUMENTS:
        document.write_text(with_tables(document.read_text(), result))
    write_plot(result, PLOT)


if __name__ == "__main__":
    main()
