"""What a finished folder says of itself: the hash and size of every file in it, so that a copy can be checked."""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qface_toolkit import verifier
from qface_toolkit.errors import ArtifactError
from qface_toolkit.untrusted.json import json_bytes, read_json
from qface_toolkit.untrusted.reading import file_sha256
from qface_toolkit.untrusted.writing import (
    UNFINISHED,
    disk_errors,
    lock_folder,
    sync_folder,
    write_inside,
)

MANIFEST = "manifest.json"
SIGNATURE: Literal["qface_toolkit"] = "qface_toolkit"

WORK = "work/"
"""Files under this name are only needed to resume; they do not reach the finished folder."""

EXPORTED = "exported"
"""Key of the manifest: for each file that was lowered again, the backend and the settings it was lowered with."""

_ADDED = ".adding-"
"""What the name of a folder begins with that holds files on their way into the one around it."""

NAME = re.compile(rf"^({WORK})?[A-Za-z0-9][A-Za-z0-9._-]*$")


class FileRecord(BaseModel):
    """What a file must be: its hash and its size."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


FileName = Annotated[str, Field(pattern=NAME.pattern)]


class Manifest(BaseModel):
    """manifest.json: the hashes of the folder's files and, as further keys, whatever the job says of itself."""

    model_config = ConfigDict(extra="allow", frozen=True)

    version: Literal[1]
    made_by: Literal["qface_toolkit"]
    files: dict[FileName, FileRecord]


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a finished folder.

    Raises:
        ArtifactError: if it is missing, damaged or of a version that is not known.
    """
    path = folder / MANIFEST
    values = read_json(path)
    if values.get("version") != 1:
        what = f"this manifest has version {values.get('version')!r}; version 1 is known"
        raise ArtifactError(what, where=str(path), fix="use the version of qface_toolkit that wrote it")
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        raise damaged(path, error) from error


def damaged_files(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Return the files of a finished folder that are not what its manifest says, each with what is wrong with it."""
    return {name: wrong for name in manifest.files if (wrong := damage(folder, name, manifest))}


def damage(folder: Path, name: str, manifest: Manifest) -> str | None:
    """Return what is wrong with a file that the manifest names, every byte of which is read."""
    with disk_errors(folder):
        return verifier.damage(folder / name, **dict(manifest.files[name]))


def add_files(folder: Path, files: Mapping[str, bytes], told: Mapping[str, Any]) -> None:
    """Write files into a finished folder, and their hashes and further keys into its manifest: all of it or nothing.

    They are collected in a folder inside, whose manifest is written last: from then on they belong to the result, and
    should the machine stop before all of them have their names, the next call of `finish_adding` gives them these.

    Raises:
        ArtifactError: if the disk is full or does not let us.
    """
    finish_adding(folder)
    values = read_json(folder / MANIFEST)
    records = {name: record_of_bytes(data).model_dump() for name, data in files.items()}
    known = Manifest.model_validate(values).model_dump()["files"]
    values |= {**told, "files": dict(sorted((known | records).items()))}
    with disk_errors(folder):
        waiting = folder / f"{_ADDED}{secrets.token_hex(8)}"
        waiting.mkdir()
        try:
            for name, data in (*files.items(), (MANIFEST, json_bytes(values))):
                write_inside(waiting, name, data)
            sync_folder(folder)
        except BaseException:
            shutil.rmtree(waiting, ignore_errors=True)
            raise
        _move_in(waiting, folder)


def finish_adding(folder: Path) -> None:
    """Finish what `add_files` was stopped in if all of it was there, or else remove it; call it alone in the folder.

    Raises:
        ArtifactError: if the disk does not let us.
    """
    with disk_errors(folder):
        for left in sorted(folder.iterdir()):
            if left.name.startswith(UNFINISHED) and not left.is_dir():
                left.unlink()
            elif left.name.startswith(_ADDED) and left.is_dir() and not left.is_symlink():
                if _is_whole(left):
                    _move_in(left, folder)
                else:
                    shutil.rmtree(left)


@contextmanager
def alone_in(root: Path) -> Iterator[None]:
    """Keep other processes out of a folder that is there; a missing one is told by whoever reads it."""
    with disk_errors(root):
        lock = lock_folder(root) if root.is_dir() else None
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _is_whole(waiting: Path) -> bool:
    """Tell whether the manifest got here, which comes last, and what still waits is what it says."""
    try:
        manifest = read_manifest(waiting)
    except ArtifactError:
        return False
    names = [path.name for path in waiting.iterdir() if path.name != MANIFEST]
    return all(name in manifest.files and _is_plain(waiting / name, manifest.files[name]) for name in names)


def _is_plain(path: Path, record: FileRecord) -> bool:
    return not path.is_symlink() and is_intact(path, record)


def _move_in(waiting: Path, folder: Path) -> None:
    """Give files that wait their names, the manifest last; a link of such a name is replaced and not followed."""
    for name in sorted(path.name for path in waiting.iterdir() if path.name != MANIFEST):
        (waiting / name).replace(folder / name)
    sync_folder(folder)
    (waiting / MANIFEST).replace(folder / MANIFEST)
    waiting.rmdir()
    sync_folder(folder)


def record_of_bytes(data: bytes) -> FileRecord:
    """Return what a file of these bytes is."""
    return FileRecord(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def record_of(path: Path) -> FileRecord:
    """Return what a file is now."""
    return FileRecord(sha256=file_sha256(path), size_bytes=path.stat().st_size)


def is_intact(path: Path, record: FileRecord) -> bool:
    """Tell whether a file is there and what it should be."""
    return path.is_file() and path.stat().st_size == record.size_bytes and file_sha256(path) == record.sha256


def damaged(path: Path, error: ValidationError) -> ArtifactError:
    """Return the error for one of our own files that somebody or something changed."""
    first = error.errors()[0]
    what = f"this file is damaged at {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return ArtifactError(what, where=str(path), fix="make the folder again")
