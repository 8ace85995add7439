"""What a finished folder says of itself: the hash and size of every file in it, so that a copy can be checked."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qface_toolkit._disk import disk_errors, file_sha256, read_json
from qface_toolkit.errors import ArtifactError

MANIFEST = "manifest.json"
LARGEST_JSON_BYTES = 16_000_000
SIGNATURE: Literal["qface_toolkit"] = "qface_toolkit"

WORK = "work/"
"""Files under this name are only needed to resume; they do not reach the finished folder."""

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
    values = read_json(path, LARGEST_JSON_BYTES)
    if values.get("version") != 1:
        what = f"this manifest has version {values.get('version')!r}; version 1 is known"
        raise ArtifactError(what, where=str(path), fix="use the version of qface_toolkit that wrote it")
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        raise damaged(path, error) from error


def verify_files(folder: Path) -> Manifest:
    """Check that every file of a finished folder is what its manifest says, and return the manifest.

    Raises:
        ArtifactError: listing each file that is missing or changed.
    """
    manifest = read_manifest(folder)
    with disk_errors(folder):
        wrong = [name for name, record in manifest.files.items() if not is_intact(folder / name, record)]
    if wrong:
        what = f"files are missing or not what the manifest says: {', '.join(wrong)}"
        raise ArtifactError(what, where=str(folder), fix="copy the folder again, or make it again")
    return manifest


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
