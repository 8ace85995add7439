"""Whether a folder is one of ours: nothing else is replaced, whatever a user says."""

import contextlib
from pathlib import Path

from qface_toolkit.errors import ArtifactError
from qface_toolkit.result.manifest import MANIFEST, SIGNATURE
from qface_toolkit.untrusted.json import read_json
from qface_toolkit.untrusted.writing import UNFINISHED

PROGRESS = "progress.json"
"""Notes in an unfinished folder which steps are done."""


def refuse_strangers(folder: Path) -> None:
    """Raise unless a folder is one of ours or holds nothing, so that no --force deletes somebody's home."""
    if folder.is_dir() and all(entry.name.startswith(UNFINISHED) for entry in folder.iterdir()):
        return
    for name in (PROGRESS, MANIFEST):
        if (folder / name).is_file() and _is_signed(folder / name):
            return
    raise ArtifactError("this was not made by qface and is not replaced", where=str(folder), fix="choose another --out")


def _is_signed(path: Path) -> bool:
    with contextlib.suppress(ArtifactError):
        return read_json(path).get("made_by") == SIGNATURE
    return False
