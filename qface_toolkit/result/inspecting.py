"""Inspect whatever a path holds: one file of ours or of a stranger's, or every artifact of a result."""

import shlex
from collections.abc import Callable
from pathlib import Path

from qface_toolkit.backends import PROGRAMS, inspect_here, runner_of
from qface_toolkit.errors import ArtifactError
from qface_toolkit.runtimes.fusion import Fusion
from qface_toolkit.untrusted.formats import model_in


def inspect_files(model: str | Path, begin: Callable[[str], object] = lambda name: None) -> dict[str, Fusion]:
    """Return what the runtime really runs for an .onnx file, a .ts archive or every artifact of a result, by name.

    `begin` is called with the name of each file before it is looked at.

    Raises:
        QFaceError: if there is nothing to inspect, or a file is damaged, refused or not to be trusted.
    """
    path = Path(model)
    files = [one for one in sorted(path.iterdir()) if one.suffix in PROGRAMS] if path.is_dir() else [path]
    runners = {file: runner for file in files if (runner := runner_of(file))}
    if not runners:
        raise _nothing(path)
    found = {}
    for file, runner in runners.items():
        begin(file.name)
        found[file.name] = inspect_here(runner, file)
    return found


def _nothing(path: Path) -> ArtifactError:
    """Return the error for what has no operators of a runtime's; a checkpoint has some once it is compressed."""
    if not path.exists():
        return ArtifactError("there is no such model", where=str(path), fix="check the path")
    meant = path if path.is_file() else model_in(path)
    fix = "give an .onnx file, a .ts archive of ours or a result"
    if meant:
        fix = f"compress it first, and look at the result: qface compress {shlex.quote(str(meant))} --out DIR"
    return ArtifactError("there is nothing to inspect: no runtime runs this", where=str(path), fix=fix)
