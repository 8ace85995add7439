"""Training data: aligned crops by number, in whichever form people keep them; one file a kind.

A source is a text: the name or the YAML of a calibration set, a folder, a RecordIO file or a pattern of tar shards.
"""

import difflib
from pathlib import Path

from qface_toolkit.datasets._base import DATASETS, UNKNOWN, Dataset, Example, FaceData, Opening
from qface_toolkit.datasets._holding import hold_out
from qface_toolkit.datasets._memory import MemoryData
from qface_toolkit.errors import CalibrationError
from qface_toolkit.sources import set_names

__all__ = [
    "DATASETS",
    "UNKNOWN",
    "Dataset",
    "Example",
    "FaceData",
    "MemoryData",
    "Opening",
    "hold_out",
    "open_data",
]

_ORDER = ("drawn", "recordio", "shards", "people", "crops")
"""A name goes before a folder of that name, and packed data before the folder that they lie in; others come last."""

_KINDS = (
    "give a set's name ({names}), a set's YAML file, a folder of aligned crops or of one folder an identity, a "
    "RecordIO file (X.rec beside X.idx), or tar shards (dir/train-{{000..009}}.tar, dir/*.tar)"
)


def open_data(source: str, opening: Opening = Opening()) -> FaceData:  # noqa: B008 - it cannot be changed
    """Return the training data that a source names, of the first kind that recognises it.

    Raises:
        CalibrationError: if none does, or the data cannot be read.
        RecipeError: if a set's YAML has mistakes.
        ArtifactError: if the disk refuses what is drawn.
    """
    kinds = DATASETS.entries()
    for name in (*_ORDER, *sorted(kinds.keys() - set(_ORDER))):
        if kinds[name].recognises(source):
            return kinds[name].open(source, opening)
    raise _unrecognised(source)


def _unrecognised(source: str) -> CalibrationError:
    names = set_names()
    close = difflib.get_close_matches(source, names, n=1)
    fix = f"did you mean {close[0]}? Or " if close else ""
    what = "there is no training data of this name"
    if Path(source).is_dir() and any(Path(source).glob("*.tar")):
        pattern = str(Path(source) / "*.tar")
        return CalibrationError("this is a folder of tar shards", where=source, fix=f"name them: --data {pattern!r}")
    if Path(source).is_dir():
        what = "the folder holds neither aligned crops nor folders of them"
    elif Path(source).exists():
        what = "this is no training data of a kind that is known"
    return CalibrationError(what, where=source, fix=fix + _KINDS.format(names=", ".join(names)))
