"""Whether the files beside a report are those that it and the manifest speak of: figures of other files say nothing.

Hashes find damage and mistakes, not malice: a folder whose report, manifest and files were all changed to fit each
other is what `qface verify` looks at.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from qface_toolkit._disk import disk_errors
from qface_toolkit.errors import ArtifactError
from qface_toolkit.gate.baseline import Judged
from qface_toolkit.gate.verdict import Finding
from qface_toolkit.result.manifest import MANIFEST, FileRecord, is_intact, read_manifest

FIGURE = "sha256"
EVERY_FILE = "all files"
MODELS = (".onnx", ".ts", ".safetensors")
_ALONE = "only a report was given, so no file was compared with its hash; give the result's folder"
_AGAIN = "copy the folder again, or make it again"
Records = Mapping[str, FileRecord]


def file_findings(judged: Judged) -> Iterator[Finding]:
    """Return a finding on each file that is missing, changed or unknown, and one on all that are as they should be.

    Raises:
        ArtifactError: if the disk refuses.
    """
    if judged.folder is None:
        yield Finding(EVERY_FILE, FIGURE, "not looked at", _ALONE)
        return
    reported = {one.name: FileRecord(sha256=one.sha256, size_bytes=one.size_bytes) for one in judged.report.artifacts}
    listed, mistake = _in_manifest(judged.folder)
    with disk_errors(judged.folder):
        wrong = {MANIFEST: mistake} if mistake else {}
        wrong |= _wrong(judged.folder, listed, reported)
        there = [one.name for one in sorted(judged.folder.iterdir()) if one.suffix in MODELS]
    known = {**listed, **reported}
    yield from (Finding(name, FIGURE, "failed", said) for name, said in wrong.items())
    for name in dict.fromkeys((*there, *([] if mistake else [judged.path.name]))):
        if name not in known:
            yield Finding(name, FIGURE, "not looked at", "neither the report nor the manifest knows this file")
    if right := len(known.keys() - wrong.keys()):
        yield Finding(EVERY_FILE, FIGURE, "passed", f"{right} files are those of the report and the manifest")


def _in_manifest(folder: Path) -> tuple[Records, str]:
    """Return what the manifest says of files, or why it cannot be used."""
    try:
        return read_manifest(folder).files, ""
    except ArtifactError as error:
        return {}, f"{error.what}; {error.fix or _AGAIN}"


def _wrong(folder: Path, listed: Records, reported: Records) -> dict[str, str]:
    """Return what is wrong with each file that is."""
    said = {name: _damage(folder, name, listed.get(name), reported.get(name)) for name in {**listed, **reported}}
    return {name: wrong for name, wrong in said.items() if wrong}


def _damage(folder: Path, name: str, listed: FileRecord | None, reported: FileRecord | None) -> str | None:
    file = folder / name
    if Path(name).name != name or not file.is_file():
        return f"it is missing; {_AGAIN}"
    if listed and not is_intact(file, listed):
        return f"it is not the file that the manifest speaks of; {_AGAIN}"
    if reported and not (listed == reported or is_intact(file, reported)):
        return "it is not the file that was measured for the report; compress again, or export under another name"
    return None
