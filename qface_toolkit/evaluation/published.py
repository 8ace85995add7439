"""What the papers report on the field's sets, to be set beside one's own figures; the table is published.yaml."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class PublishedRow:
    """One model of one paper: `figures` are rates in 0..1 by the suite's keys; `note` says what is uncertain."""

    system: str
    model: str
    config: str
    figures: dict[str, float]
    source: str
    note: str | None = None


@cache
def published_rows() -> tuple[PublishedRow, ...]:
    """Return the published rows, system by system, in the papers' order."""
    systems = yaml.safe_load(FILE.read_text("utf-8"))["systems"]
    return tuple(
        PublishedRow(
            system=one["system"],
            model=row["model"],
            config=row["config"],
            # In percent, as published, in the file.
            figures={key: round(percent / 100, 6) for key, percent in row["figures"].items()},
            source=one["source"],
            note=row.get("note"),
        )
        for one in systems
        for row in one["rows"]
    )
