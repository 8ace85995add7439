"""Files that belong together, written so that the one which is looked for first appears last."""

from collections.abc import Mapping
from pathlib import Path

from qface_toolkit._disk import disk_errors, replacing
from qface_toolkit.errors import ArtifactError


def write_together(contents: Mapping[str, bytes], folder: Path, *, force: bool) -> tuple[Path, ...]:
    """Write files into a folder, which is made if it is missing, and return them; the first one is written last.

    Raises:
        ArtifactError: if the first one is there already and is not to be replaced, or the disk refuses.
    """
    first = folder / next(iter(contents))
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if first.exists() and not force:
            raise ArtifactError("the file is there already", where=str(first), fix="--force to replace it")
        for name in reversed(list(contents)):
            with replacing(folder / name) as path:
                path.write_bytes(contents[name])
    return tuple(folder / name for name in contents)
