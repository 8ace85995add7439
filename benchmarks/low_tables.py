"""The tables of what recipes below eight bits make, from the committed result of low_bits.py and nothing else.

    python benchmarks/low_tables.py        # after benchmarks/results/low_bits.json has changed

They stand between the marks `<!-- low-bits:begin -->` and `<!-- low-bits:end -->`, and a choice of their rows and
columns between `low-bits-short` ones, in the documents that have them; a test fails when they are not
what the result says.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from plot import NETWORKS
from tables import HERE, between

RESULT = HERE / "results" / "low_bits.json"
DOCUMENTS = (HERE / "README.md", HERE.parent / "docs" / "low-bits.md")
WHOLE, SHORT = "low-bits", "low-bits-short"
TITLES = (
    "recipe",
    "KB",
    "of float",
    "KB zipped",
    "KB nominal",
    "ms",
    "x int8",
    "load, ms",
    "int8's",
    "memory, MB",
    "int8's",
    "cosine mean / p1",
    "TAR 1e-4",
    "lost, points",
)
SHORT_PLACES = (0, 1, 2, 5, 11, 12, 13)
"""The columns of the short table, by their place in TITLES."""
SHORT_MODEL, SHORT_RECIPES = "prelu", ("float", "int8", "w6a8", "small", "w4a8")
Row = Mapping[str, Any]


def low_bits_tables(result: Mapping[str, Any]) -> str:
    """Return a table of Markdown for each model of a result."""
    models = dict.fromkeys(row["model"] for row in result["rows"])
    return "\n\n".join(_table(model, _of(model, result)) for model in models)


def short_table(result: Mapping[str, Any]) -> str:
    """Return the recipes that write files, of one network, in a few columns."""
    rows = _of(SHORT_MODEL, result)
    cells = [_cells(row, _scored(rows)) for row in rows if row["recipe"] in SHORT_RECIPES]
    return _markdown([[line[place] for place in SHORT_PLACES] for line in (TITLES, *cells)])


def _of(model: str, result: Mapping[str, Any]) -> list[Row]:
    return [row for row in result["rows"] if row["model"] == model]


def _scored(rows: list[Row]) -> Row | None:
    return next((row for row in rows if "tar" in row), None)


def _table(model: str, rows: list[Row]) -> str:
    lines = [TITLES, *(_cells(row, _scored(rows)) for row in rows)]
    return f"**{NETWORKS.get(model, model)}**\n\n{_markdown(lines)}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(lines[0]) - 1)
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def _cells(row: Row, scored: Row | None) -> list[str]:
    """Return a row's cells; what float reaches is what any row `scored` reaches and lost."""
    name = f"**{row['recipe']}**" if row["recipe"] == "small" else row["recipe"]
    accuracy = _accuracy(row)
    if row["recipe"] == "float" and scored is not None:
        accuracy[1] = f"{(scored['tar']['1e-4'] + scored['tar_lost']['1e-4']['value']) * 100:.2f}"
    return [name, *_sizes(row), *_times(row), *accuracy]


def _sizes(row: Row) -> list[str]:
    if "simulation" in row["file"]:
        return [f"no file ({_kb(row, 'payload_bytes')} packed)", "", "", _kb(row, "nominal_bytes")]
    ratio = f"{row['size_ratio']:.3f}"
    return [_kb(row, "size_bytes"), ratio, _kb(row, "compressed_bytes"), _kb(row, "nominal_bytes")]


def _kb(row: Row, key: str) -> str:
    return f"{row[key] / 1e3:,.0f}"


def _times(row: Row) -> list[str]:
    if "p50_ms" not in row:
        return [""] * 6
    beside = row.get("int8_of_the_same_weights")
    speed, load, memory = (
        ("", "", "")
        if beside is None
        else (f"{beside['times_faster']:.2f}", f"{beside['load_ms']:.0f}", f"{beside['peak_memory_bytes'] / 1e6:.0f}")
    )
    own = f"{row['p50_ms']['value']:.2f}", f"{row['load_ms']:.0f}", f"{row['peak_memory_bytes'] / 1e6:.0f}"
    return [own[0], speed, own[1], load, own[2], memory]


def _accuracy(row: Row) -> list[str]:
    if "cosine_mean" not in row:
        return ["", "", ""]
    lost = row["tar_lost"]["1e-4"]
    value, low, high = (f"{lost[end] * 100:.2f}" for end in ("value", "low", "high"))
    cosines = f"{row['cosine_mean']:.4f} / {row['cosine_p1']:.4f}"
    return [cosines, f"{row['tar']['1e-4'] * 100:.2f}", f"{value} ({low} to {high})"]


def with_low_bits(document: str, result: Mapping[str, Any]) -> str:
    """Return a document with the tables between their marks; one without marks as it is."""
    if f"<!-- {SHORT}:begin -->" in document:
        document = between(document, SHORT, short_table(result))
    return between(document, WHOLE, low_bits_tables(result))


def main() -> None:
    """Bring every document up to date."""
    result = json.loads(RESULT.read_text())
    for document in DOCUMENTS:
        document.write_text(with_low_bits(document.read_text(), result))


if __name__ == "__main__":
    main()
