"""The sets that the field's tables are made of, found in one folder under the names that people give them."""

from dataclasses import dataclass
from pathlib import Path

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation.ijb import IJB_NAMES, IjbName, has_protocol

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
