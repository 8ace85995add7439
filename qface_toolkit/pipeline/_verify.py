"""Verify a result on this machine: are its files what was written, and do they compute here what they did there."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.backends import PROGRAMS, Runner, runner_of
from qface_toolkit.errors import ArtifactError, QFaceError
from qface_toolkit.methods import Progress
from qface_toolkit.result.finished import Result, open_result
from qface_toolkit.result.golden import FLOAT, INPUTS, golden_of
from qface_toolkit.result.job import Tell, silent
from qface_toolkit.result.made import is_elsewhere
from qface_toolkit.result.names import DESCRIPTION
from qface_toolkit.runtimes import FAST_ARTIFACT, FLOAT_ARTIFACT
from qface_toolkit.scoring.verdicts import FileVerdict, Verification, judge_file

_FLOATS = (FLOAT_ARTIFACT, FAST_ARTIFACT)
Floats = npt.NDArray[np.float32]


def verify(result: str | os.PathLike[str], *, tell: Tell = silent) -> Verification:
    """Check a result's files against its manifest and run its golden vectors on the runtimes of this machine.

    Where the result may be used here as it was where it was made, `trustworthy` of what is returned is true.

    Raises:
        ArtifactError: if the folder is no finished result, or its golden vectors are damaged.
    """
    opened = open_result(result)
    tell("check the files")
    damaged = opened.damaged
    islands = DESCRIPTION not in damaged and opened.has_islands()
    check = _Check(opened, opened.golden(), damaged, islands)
    return Verification(tuple(check.verdicts(tell("run the golden vectors"))), len(check.golden[INPUTS]))


@dataclass(frozen=True)
class _Check:
    result: Result
    golden: Mapping[str, Floats]
    damaged: Mapping[str, str]
    islands: bool

    def names(self) -> list[str]:
        """Return the float files, the artifacts, other damaged files, and files that should not be there."""
        floats = [name for name in _FLOATS if name in self.result.names]
        artifacts = [name for name in self.golden if name not in (INPUTS, FLOAT) and not is_elsewhere(name)]
        there = sorted(file.name for file in self.result.folder.iterdir() if file.suffix in PROGRAMS)
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
        known = FLOAT if name in _FLOATS else name
        if name not in self.result.names or known not in self.golden:
            missing = "golden vectors" if name in self.result.names else "manifest"
            return FileVerdict(name, "unknown", reason=f"the {missing} of this folder do not know it")
        try:
            runner = self._runner(name)
            file = self.result.folder / name
            got = runner.try_out(file, self.golden[INPUTS], runner.read(file))
        except QFaceError as error:
            return FileVerdict(name, "cannot run", reason=error.what)
        expected, followed = golden_of(self.golden, known), runner.followed and not self.islands
        return judge_file(name, expected, self.golden[FLOAT], got, followed=followed)

    def _runner(self, name: str) -> Runner:
        file = self.result.folder / name
        runner = self.result.backend(name) or runner_of(file)
        if runner is None:
            raise ArtifactError("no runtime here runs such a file", where=str(file))
        return runner
