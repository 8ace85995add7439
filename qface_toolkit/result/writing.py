"""Files that belong together, written so that the one which is looked for first appears last."""

import os
from collections.abc import Mapping
from pathlib import Path

from qface_toolkit.errors import ArtifactError
from qface_toolkit.untrusted.writing import disk_errors, write_inside


def check_free(first: Path, *, force: bool) -> None:
    """Refuse what `write_together` would refuse, before hours of work are spent on it; nothing is made.

    Raises:
        ArtifactError: if the file is there already and is not to be replaced, or its folder cannot be written.
    """
    with disk_errors(first):
        place = next(path for path in first.absolute().parents if os.path.lexists(path))
        if not place.is_dir():
            what = "this is a file and not a folder" if place.is_file() else "this is a pipe, or a link to nothing"
            raise ArtifactError(what, where=str(place), fix="choose another --out")
        if first.exists() and not force:
            raise ArtifactError("the file is there already", where=str(first), fix="--force to replace it")
        if not os.access(place, os.W_OK):
            raise ArtifactError("this place may not be written", where=str(place), fix="choose another --out")


def write_together(contents: Mapping[str, bytes], folder: Path, *, force: bool) -> tuple[Path, ...]:
    """Write files into a folder, which is made if it is missing, and return them; the first one is written last.

    Raises:
        ArtifactError: if the first one is there already and is not to be replaced, or the disk refuses.
    """
    check_free(folder / next(iter(contents)), force=force)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in reversed(list(contents)):
            write_inside(folder, name, contents[name])
    return tuple(folder / name for name in contents)
