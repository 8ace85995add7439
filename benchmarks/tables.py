"""Write the head-to-head's tables and plot into the documents, from the committed result and nothing else.

    python benchmarks/tables.py            # after benchmarks/results/head_to_head.json has changed

The tables stand between the marks `<!-- head-to-head:begin -->` and `<!-- head-to-head:end -->`, and a choice of their
rows and columns between `head-to-head-short` ones, in the documents that have them. A test fails when they or the plot
are not what the result says.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plot import NETWORKS, write_plot

HERE = Path(__file__).resolve().parent
RESULT, PLOT = HERE / "results" / "head_to_head.json", HERE / "results" / "head_to_head.png"
DOCUMENTS = (HERE / "README.md", HERE.parent / "README.md")
WHOLE, SHORT = "head-to-head", "head-to-head-short"
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
    "pair accuracy",
    "TAR 1e-4",
    "minutes",
    "real faces",
)
SHORT_TITLES = ("what", "calibrated on", "KB", "ms", "times faster", "cosine mean / p1", "pair accuracy", "TAR 1e-4")
SHORT_ROWS = (
    "float.onnx",
    "float.fast.onnx",
    "int8, int8.x86.onnx",
    "quantize_static Percentile",
    "NNCF performance",
    "torch.ao FX, defaults",
    "QuantFace's rule, w8a8",
)
Row = Mapping[str, Any]


def tables(result: Mapping[str, Any], titles: Sequence[str] = TITLES, names: Sequence[str] = ()) -> str:
    """Return a table of Markdown for each model of a result: these columns, and the rows of these names, or all."""
    wanted = [row for row in result["rows"] if not names or row["name"] in names]
    models = dict.fromkeys(row["model"] for row in wanted)
    return "\n\n".join(_table(model, [row for row in wanted if row["model"] == model], titles) for model in models)


def _table(model: str, rows: Sequence[Row], titles: Sequence[str]) -> str:
    places = [TITLES.index(title) for title in titles]
    lines = [titles, ["---" if place < 2 else "---:" for place in places]]
    lines += [[cells[place] for place in places] for cells in map(_cells, rows)]
    return f"**{NETWORKS.get(model, model)}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
    return [f"{row['cosine_mean']:.4f} / {row['cosine_p1']:.4f}", pairs, f"{row['tar']['1e-4'] * 100:.2f}"]


def _made(row: Row) -> str:
    return "" if row["by"] == "float" else f"{row['seconds_to_make'] / 60:.1f}"


def with_tables(document: str, result: Mapping[str, Any]) -> str:
    """Return a document with the tables between their marks; one without marks as it is."""
    document = between(document, SHORT, tables(result, SHORT_TITLES, SHORT_ROWS))
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
