"""The sets that the field's tables are made of, found in one folder under the names that people give them.

What the papers report on them, to be set beside one's own figures, stands in published.yaml.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation.ijb import IJB_NAMES, IjbName, has_protocol

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


PAIR_FILES = {
    "lfw": ("lfw.bin",),
    "cfp_fp": ("cfp_fp.bin", "cfp-fp.bin", "cfpfp.bin"),
    "agedb_30": ("agedb_30.bin", "agedb-30.bin", "agedb30.bin"),
    "calfw": ("calfw.bin",),
    "cplfw": ("cplfw.bin",),
}
FOLDERS: dict[IjbName, tuple[str, ...]] = {
    "ijbb": ("IJBB", "IJB-B", "IJB_B", "IJB_release/IJBB", "ijb/IJBB"),
    "ijbc": ("IJBC", "IJB-C", "IJB_C", "IJB_release/IJBC", "ijb/IJBC"),
}
SUITE_KEYS = (*PAIR_FILES, *IJB_NAMES)


@dataclass(frozen=True)
class Suite:
    """Where the sets are, by key, and for each missing one what was looked for."""

    pairs: dict[str, Path]
    ijb: dict[IjbName, Path]
    missing: dict[str, str]


def find_suite(folder: Path) -> Suite:
    """Find lfw.bin, cfp_fp.bin, agedb_30.bin, calfw.bin, cplfw.bin, IJBB/ and IJBC/ in a folder, letters in any case.

    Raises:
        MeasurementError: if the folder cannot be read or holds none of them.
    """
    pairs = {key: path for key, names in PAIR_FILES.items() if (path := _file(folder, names))}
    ijb = {key: path for key, names in FOLDERS.items() if (path := _protocol(folder, key, names))}
    every = {key: names for sets in (PAIR_FILES.items(), FOLDERS.items()) for key, names in sets}
    missing = {key: f"no {every[key][0]}" for key in SUITE_KEYS if key not in pairs and key not in ijb}
    if not pairs and not ijb:
        names = ", ".join(names[0] for names in every.values())
        raise MeasurementError("none of the sets is here", where=str(folder), fix=f"put them there as {names}")
    return Suite(pairs, ijb, missing)


def _file(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((path for name in names for path in _spelled(folder, name) if path.is_file()), None)


def _protocol(folder: Path, key: IjbName, names: tuple[str, ...]) -> Path | None:
    # The folder of one protocol alone may be given itself.
    places = [folder, *(path for name in names for path in _spelled(folder, name))]
    return next((path for path in places if has_protocol(path, key)), None)


def _spelled(folder: Path, name: str) -> list[Path]:
    """Return the paths that are spelled like this one, letters in any case."""
    found = [folder]
    for part in name.split("/"):
        found = [path for one in found for path in _entries(one) if path.name.lower() == part.lower()]
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        what = f"the folder cannot be read: {error.strerror or error}"
        raise MeasurementError(what, where=str(folder), fix="check the path") from error
