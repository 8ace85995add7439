"""The output folder: absent or complete, whatever happens meanwhile, and work that was paid for is not done twice.

Everything is written to OUT.partial. Each finished step is noted in progress.json there, with the hashes of the files
it wrote, so that the same job can go on after a kill. The folder gets its name last, when its manifest is in it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from qface_toolkit.errors import ArtifactError
from qface_toolkit.result._progress import DoneStep, Progress, read_progress
from qface_toolkit.result._strangers import PROGRESS, refuse_strangers
from qface_toolkit.result.manifest import (
    MANIFEST,
    NAME,
    SIGNATURE,
    WORK,
    FileRecord,
    Manifest,
    is_intact,
    read_manifest,
    record_of,
    record_of_bytes,
)
from qface_toolkit.untrusted.json import write_json
from qface_toolkit.untrusted.writing import (
    disk_errors,
    lock_folder,
    remove_all_but,
    sync_folder,
    write_inside,
)

__all__ = [
    "MANIFEST",
    "PROGRESS",
    "WORK",
    "Manifest",
    "OutputFolder",
    "fingerprint_of",
    "read_manifest",
]


def fingerprint_of(**inputs: object) -> str:
    """Return a hash of plain values (source sha256, recipe, seed, version…): the same inputs, the same fingerprint."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


class OutputFolder:
    """A folder in the making; used in a `with` block, which keeps other processes out of it.

    Leaving the block before `finish` leaves OUT.partial for `resume`, or nothing if no step was done yet.
    """

    def __init__(
        self, out: Path, *, fingerprint: str, force: bool = False, resume: bool = False, vital: str = ""
    ) -> None:
        """Open OUT.partial: a new one, or with `resume` the one that the same job left.

        `force` allows replacing a finished folder and throwing unfinished work away (unless `resume` is given too).
        Steps whose names begin with the word `vital` are the work itself: without their files nothing is resumed.

        Raises:
            ArtifactError: if there is something in the way, or the place cannot be written.
        """
        # Unlike Path.resolve, it raises for no circle of links, which is told below.
        self.out = Path(os.path.realpath(out))
        if not self.out.name:
            raise ArtifactError("this cannot be an output folder", where=str(out), fix="name a folder inside it")
        self.partial = self.out.with_name(f"{self.out.name}.partial")
        self._aside = self.out.with_name(f".{self.out.name}.replaced")
        self._force = force
        self._vital = vital
        self._progress = Progress(fingerprint=fingerprint)
        self._unmarked: dict[str, FileRecord] = {}
        self._lock: int | None = None
        with disk_errors(self.out):
            self._check_out()
            self._open_partial(resume)

    def __enter__(self) -> "OutputFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes have the folder; take unfinished work away if no step of it is done."""
        if self._lock is None:
            return
        if not self._progress.steps and self.partial.exists():
            shutil.rmtree(self.partial, ignore_errors=True)
        os.close(self._lock)
        self._lock = None

    def path(self, name: str) -> Path:
        """Return where a file of this name stands until the folder is finished; for reading.

        Raises:
            ValueError: if it is not a plain file name, with or without `work/` before it.
        """
        if not NAME.fullmatch(name) or name in (MANIFEST, PROGRESS):
            raise ValueError(f"{name!r} cannot be the name of an artifact")
        return self.partial / name

    def write(self, name: str, data: bytes) -> Path:
        """Write a file, whole or not at all.

        Raises:
            ArtifactError: if the disk is full or does not let us.
        """
        path = self.path(name)
        with disk_errors(path):
            write_inside(self.partial, name, data)
        self._unmarked[name] = record_of_bytes(data)
        return path

    def done(self, step: str) -> bool:
        """Tell whether a step was done, now or before the job was resumed."""
        return any(step == one.name for one in self._progress.steps)

    def mark(self, step: str, notes: Mapping[str, Any] | None = None, *, alone: bool = False) -> None:
        """Note that a step is done, with every file written since the last one and plain values worth keeping.

        Nothing rests on a step that stands `alone`: without its files it is done again or missing, and no other is.

        Raises:
            ArtifactError: if the disk is full or does not let us.
            ValueError: if the step was done before.
        """
        if self.done(step):
            raise ValueError(f"the step {step!r} was done before")
        done = DoneStep(name=step, files=self._unmarked, notes=dict(notes or {}), alone=alone)
        self._progress.steps.append(done)
        self._unmarked = {}
        with disk_errors(self.partial):
            self._save()

    def adopt(self, name: str) -> None:
        """Count a file as written that another process of the same job wrote."""
        self._unmarked[name] = record_of(self.path(name))

    def latest(self, kind: str) -> str | None:
        """Return the last step that is done whose name begins with a word."""
        return next((one.name for one in reversed(self._progress.steps) if one.name.startswith(f"{kind} ")), None)

    def forget(self, step: str) -> None:
        """Take a step back that a later one stands for, and its files away.

        Raises:
            ArtifactError: if the disk does not let us.
        """
        gone = {name for one in self._progress.steps if one.name == step for name in one.files}
        self._progress.steps = [one for one in self._progress.steps if one.name != step]
        with disk_errors(self.partial):
            self._save()
            for name in gone - self._progress.files().keys():
                self.path(name).unlink(missing_ok=True)

    def notes(self, step: str) -> dict[str, Any]:
        """Return what was noted with a step that is done."""
        return {one.name: one.notes for one in self._progress.steps}[step]

    def finish(self, manifest: Mapping[str, Any]) -> Path:
        """Write manifest.json with these values and every file's hash, give the folder its name and return it.

        Raises:
            ArtifactError: if the disk is full or does not let us; the work stays in OUT.partial.
        """
        with disk_errors(self.out):
            kept = [name for name in (*self._progress.files(), *self._unmarked) if not name.startswith(WORK)]
            remove_all_but(self.partial, {*kept, PROGRESS})
            files = {name: record_of(self.partial / name).model_dump() for name in sorted(set(kept))}
            write_json(self.partial / MANIFEST, _manifest_values(manifest, files))
            (self.partial / PROGRESS).unlink()
            try:
                self._give_name()
            except (OSError, ArtifactError):
                self._save()
                raise
        self.close()
        return self.out

    def _check_out(self) -> None:
        for place in (self.out, self.partial, self._aside):
            if place.is_symlink():
                fix = "remove the link, or choose another --out"
                raise ArtifactError("this is a link where a folder of ours would stand", where=str(place), fix=fix)
        if self._aside.exists() and not self.out.exists():
            # A kill between the two renames of `_give_name`: nothing was lost, put it back.
            self._aside.rename(self.out)
        if not self.out.exists():
            return
        if not self._force:
            fix = "choose another --out, or --force to replace it"
            raise ArtifactError("the output folder exists", where=str(self.out), fix=fix)
        refuse_strangers(self.out)

    def _open_partial(self, resume: bool) -> None:
        if not self.partial.exists():
            self.partial.mkdir(parents=True)
        elif not (resume or self._force):
            fix = "--resume to go on with it, --force to start over"
            raise ArtifactError("there is unfinished work for this folder", where=str(self.partial), fix=fix)
        else:
            refuse_strangers(self.partial)
        self._lock = lock_folder(self.partial)
        try:
            if resume:
                self._resume()
            remove_all_but(self.partial, {*self._progress.files(), PROGRESS})
            self._save()
        except BaseException:
            os.close(self._lock)
            self._lock = None
            raise

    def _resume(self) -> None:
        path = self.partial / PROGRESS
        # Without it, the job ended before its first step did, or in the instant before the folder got its name.
        if path.exists():
            found = read_progress(path)
            if found.fingerprint != self._progress.fingerprint:
                same = "give the same model, recipe, seed, threads and version to go on"
                fix = f"{same}, or --force without --resume to start over"
                raise ArtifactError("the unfinished work is that of another job", where=str(self.partial), fix=fix)
            self._progress = found.whole(self._is_ours)
            self._check_vital(found)

    def _check_vital(self, before: Progress) -> None:
        kept = {step.name for step in self._progress.steps}
        lost = [one.name for one in before.steps if one.name not in kept and one.name.split(" ")[0] == self._vital]
        if lost:
            what = f"a file of {lost[-1]!r} is missing or damaged, and without it there is no going on"
            fix = "bring it back, or copy out what is whole and start over with --force"
            raise ArtifactError(what, where=str(self.partial), fix=fix)

    def _is_ours(self, name: str, record: FileRecord) -> bool:
        """Tell whether a file is what it was, and lies where it was: behind a link, there is no saying what it is."""
        path = self.partial / name
        linked = path.is_symlink() or (path.parent != self.partial and path.parent.is_symlink())
        return not linked and is_intact(path, record)

    def _save(self) -> None:
        write_json(self.partial / PROGRESS, self._progress.model_dump(mode="json"))

    def _give_name(self) -> None:
        if not self.out.exists():
            self.partial.rename(self.out)
        else:
            self._check_out()
            shutil.rmtree(self._aside, ignore_errors=True)
            self.out.rename(self._aside)
            try:
                self.partial.rename(self.out)
            except OSError:
                self._aside.rename(self.out)
                raise
        sync_folder(self.out.parent)
        shutil.rmtree(self._aside, ignore_errors=True)


def _manifest_values(manifest: Mapping[str, Any], files: Mapping[str, Any]) -> dict[str, Any]:
    reserved = {"version": 1, "made_by": SIGNATURE}
    if taken := manifest.keys() & {*reserved, "files"}:
        raise ValueError(f"a manifest has keys of its own called {sorted(taken)}")
    return {**reserved, **manifest, "files": files}
