"""Verify a result on this machine: are its files what was written, and do they compute here what they did there.

How a file is judged is said in `verifier`, the one file that travels with a result; here every runtime is run, and
within the bounds that a stranger's file gets.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from qface_toolkit.backends import PROGRAMS, Content, Runner, runner_of
from qface_toolkit.errors import ArtifactError, BackendUnavailable, QFaceError
from qface_toolkit.methods import Progress
from qface_toolkit.result.finished import Result, open_result
from qface_toolkit.result.job import Tell, silent
from qface_toolkit.verifier import (
    FLOAT,
    FLOAT_FILES,
    INPUTS,
    MACHINE_KEY,
    FileVerdict,
    Here,
    Verification,
    file_names,
    here,
    judge,
    other_images,
)


def verify(result: str | os.PathLike[str], *, tell: Tell = silent) -> Verification:
    """Check a result's files against its manifest and run its golden vectors on the runtimes of this machine.

    Where the result may be used here as it was where it was made, `trustworthy` of what is returned is true.

    Raises:
        ArtifactError: if the folder is no finished result, or its golden vectors are damaged.
    """
    opened = open_result(result)
    tell("check the files")
    damaged = opened.damaged
    check = _Check(opened, opened.golden(), damaged)
    return Verification(tuple(check.verdicts(tell("run the golden vectors"))), len(check.golden[FLOAT]))


@dataclass(frozen=True)
class _Check:
    result: Result
    golden: Mapping[str, npt.NDArray[Any]]
    damaged: Mapping[str, str]
    on: Here = field(default_factory=here)

    def verdicts(self, progress: Progress) -> Iterator[FileVerdict]:
        """Return the verdicts on all files, and on those that should not be there."""
        there = sorted(file.name for file in self.result.folder.iterdir() if file.suffix in PROGRAMS)
        names = file_names(self.result.names, self.golden, self.damaged, there)
        for done, name in enumerate(names, 1):
            yield self.verdict(name)
            progress(done, len(names))

    def verdict(self, name: str) -> FileVerdict:
        """Return the verdict on one file."""
        if name in self.damaged:
            return FileVerdict(name, "damaged", reason=self.damaged[name])
        if name not in self.result.names or (name not in self.golden and name not in FLOAT_FILES):
            missing = "golden vectors" if name in self.result.names else "manifest"
            return FileVerdict(name, "unknown", reason=f"the {missing} of this folder do not know it")
        try:
            runner, file = self._runner(name), self.result.folder / name
            content = runner.read(file)
            takes = runner.image_input(file, content)
            other = other_images([None, takes.channels, *takes.size], self.golden[INPUTS].shape)
            if other is not None:
                return FileVerdict(name, "differs", reason=other)
            got = runner.try_out(file, self.golden[INPUTS], content)
        except QFaceError as error:
            lacking = isinstance(error, BackendUnavailable)
            return FileVerdict(name, "cannot run", reason=error.what, refused=not lacking)

        def look(tensors: Sequence[str]) -> list[npt.NDArray[Any]] | None:
            return self._looked(runner, name, content, tensors)

        return judge(name, self.golden, got, on=self.on, made_for=content.facts.get(MACHINE_KEY), look=look)

    def _looked(
        self, runner: Runner, name: str, content: Content, tensors: Sequence[str]
    ) -> list[npt.NDArray[Any]] | None:
        try:
            return runner.look(self.result.folder / name, self.golden[INPUTS], content, tensors)
        except QFaceError:
            return None

    def _runner(self, name: str) -> Runner:
        file = self.result.folder / name
        runner = self.result.backend(name) or runner_of(file)
        if runner is None:
            raise ArtifactError("no runtime here runs such a file", where=str(file))
        return runner
