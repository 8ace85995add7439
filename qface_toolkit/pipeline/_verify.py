"""Verify a result on this machine: are its files what was written, and do they compute here what they did there.

The folder may come from anybody: hashes in its manifest find damage, not malice, so that files are opened as a
stranger's are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qface_toolkit.backends import BACKENDS, PROGRAMS, Backend, runner_of
from qface_toolkit.errors import ArtifactError, QFaceError
from qface_toolkit.methods import Progress
from qface_toolkit.result.golden import FLOAT, IMAGE, INPUTS, read_golden
from qface_toolkit.result.job import Tell, silent
from qface_toolkit.result.manifest import EXPORTED, Manifest, is_intact, read_manifest
from qface_toolkit.result.names import GOLDEN
from qface_toolkit.runtimes import FAST_ARTIFACT, FLOAT_ARTIFACT
from qface_toolkit.scoring.verdicts import FileVerdict, Verification, judge_file
from qface_toolkit.untrusted.writing import disk_errors

_FLOATS = (FLOAT_ARTIFACT, FAST_ARTIFACT)
Floats = npt.NDArray[np.float32]


def verify(result: str | Path, *, tell: Tell = silent) -> Verification:
    """Check a result's files against its manifest and run its golden vectors on the runtimes of this machine.

    Where the result may be used here as it was where it was made, `trustworthy` of what is returned is true.

    Raises:
        ArtifactError: if the folder is no finished result, or its golden vectors are damaged.
    """
    folder = Path(result)
    manifest = read_manifest(folder)
    tell("check the files")
    damaged = {name: reason for name in manifest.files if (reason := _damage(folder, name, manifest))}
    if GOLDEN in damaged or GOLDEN not in manifest.files:
        what = f"there is nothing to compare with: {damaged.get(GOLDEN, 'the manifest does not name it')}"
        raise ArtifactError(what, where=str(folder / GOLDEN), fix="copy the folder again, or make it again")
    golden = {name: array for name, array in read_golden(folder / GOLDEN).items() if name != IMAGE}
    check = _Check(folder, manifest, golden, damaged)
    return Verification(tuple(check.verdicts(tell("run the golden vectors"))), len(golden[INPUTS]))


def _damage(folder: Path, name: str, manifest: Manifest) -> str | None:
    """Return what is wrong with a file that the manifest names."""
    with disk_errors(folder):
        if not (folder / name).is_file():
            return "it is missing"
        return None if is_intact(folder / name, manifest.files[name]) else "it is not what the manifest says"


@dataclass(frozen=True)
class _Check:
    folder: Path
    manifest: Manifest
    golden: Mapping[str, Floats]
    damaged: Mapping[str, str]

    def names(self) -> list[str]:
        """Return the float files, the artifacts, other damaged files, and files that should not be there."""
        floats = [name for name in _FLOATS if name in self.manifest.files]
        artifacts = [name for name in self.golden if name not in (INPUTS, FLOAT)]
        there = sorted(file.name for file in self.folder.iterdir() if file.suffix in PROGRAMS)
        return list(dict.fromkeys((*floats, *artifacts, *self.damaged, *there)))

    def verdicts(self, progress: Progress) -> Iterator[FileVerdict]:
        """Return the verdicts on all files."""
        names = self.names()
        for done, name in enumerate(names, 1):
            yield self.verdict(name)
            progress(done, len(names))

    def verdict(self, name: str) -> FileVerdict:
        """Return the verdict on one file."""
        if name in self.damaged:
            return FileVerdict(name, "damaged", reason=self.damaged[name])
        expected = self.golden[FLOAT] if name in _FLOATS else self.golden.get(name)
        if name not in self.manifest.files or expected is None:
            missing = "golden vectors" if name in self.manifest.files else "manifest"
            return FileVerdict(name, "unknown", reason=f"the {missing} of this folder do not know it")
        try:
            got = self._embeddings(name)
        except QFaceError as error:
            return FileVerdict(name, "cannot run", reason=error.what)
        return judge_file(name, expected, self.golden[FLOAT], got)

    def _embeddings(self, name: str) -> Floats:
        file = self.folder / name
        runner = self._backend(name) or runner_of(file)
        if runner is None:
            raise ArtifactError("no runtime here runs such a file", where=str(file))
        return runner.try_out(file, self.golden[INPUTS], runner.read(file))

    def _backend(self, name: str) -> Backend | None:
        """Return the backend that the manifest says wrote a file later."""
        told = (self.manifest.model_extra or {}).get(EXPORTED)
        told = told.get(name) if isinstance(told, dict) else None
        wanted = told.get("backend") if isinstance(told, dict) else None
        return BACKENDS.entries().get(wanted) if isinstance(wanted, str) else None
