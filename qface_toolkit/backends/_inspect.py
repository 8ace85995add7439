"""Inspect whatever a path holds: one file of ours or of a stranger's, or every artifact of a result."""

from collections.abc import Callable
from pathlib import Path

from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends._profile import inspect_onnx
from qface_toolkit.errors import ArtifactError
from qface_toolkit.runtimes.fusion import Fusion

ENDINGS = (".onnx", ".ts")


def inspect_files(model: str | Path, begin: Callable[[str], object] = lambda name: None) -> dict[str, Fusion]:
    """Return what the runtime really runs for an .onnx file, a .ts archive or every artifact of a result, by name.

    `begin` is called with the name of each file before it is looked at.

    Raises:
        QFaceError: if there is nothing to inspect, or a file is damaged, refused or not to be trusted.
    """
    path = Path(model)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in ENDINGS)
    if not files or files[0].suffix not in ENDINGS:
        raise ArtifactError(
            "there is nothing to inspect", where=str(path), fix="give an .onnx file, a .ts archive of ours or a result"
        )
    found = {}
    for file in files:
        begin(file.name)
        found[file.name] = _inspect(file)
    return found


def _inspect(file: Path) -> Fusion:
    # A file of a known name is run as its backend runs it, whatever else this machine could do with it.
    entries = {entry.artifact: entry for entry in BACKENDS.entries().values()}
    if file.name in entries:
        return entries[file.name].inspect(file)
    return inspect_onnx(file) if file.suffix == ".onnx" else BACKENDS.get("torch-x86").inspect(file)
