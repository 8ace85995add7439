"""What of a job is done so far: progress.json, by which it goes on after a kill."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qface_toolkit.result.manifest import FileName, FileRecord, damaged
from qface_toolkit.untrusted.json import read_json

IsOurs = Callable[[str, FileRecord], bool]


class DoneStep(BaseModel):
    """A step that is done: the files that it wrote and plain values worth keeping; nothing rests on one `alone`."""

    model_config = ConfigDict(extra="forbid")

    name: str
    files: dict[FileName, FileRecord]
    notes: dict[str, Any]
    alone: bool = False


class Progress(BaseModel):
    """The steps that are done, in their order, of the job with this fingerprint."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    made_by: Literal["qface_toolkit"] = "qface_toolkit"
    fingerprint: str
    steps: list[DoneStep] = Field(default_factory=list)

    def files(self) -> dict[str, FileRecord]:
        """Return what every file must be now: a later step may have written an earlier one's file again."""
        return {name: record for step in self.steps for name, record in step.files.items()}

    def whole(self, is_ours: IsOurs) -> "Progress":
        """Return what is left where files are gone or changed: none of the steps that rested on them."""
        chain = Progress(fingerprint=self.fingerprint, steps=[one for one in self.steps if not one.alone])
        while not all(is_ours(name, record) for name, record in chain.files().items()):
            chain.steps.pop()
        kept = {one.name for one in chain.steps}
        kept |= {one.name for one in self.steps if one.alone and all(is_ours(*file) for file in one.files.items())}
        return Progress(fingerprint=self.fingerprint, steps=[one for one in self.steps if one.name in kept])


def read_progress(path: Path) -> Progress:
    """Return what progress.json says.

    Raises:
        ArtifactError: if it is damaged.
    """
    try:
        return Progress.model_validate(read_json(path))
    except ValidationError as error:
        raise damaged(path, error) from error
