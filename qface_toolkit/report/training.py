"""training.json: how a student was trained, from which teachers and images, and how that went, step by step."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from qface_toolkit.environment import Environment
from qface_toolkit.errors import ArtifactError
from qface_toolkit.report.figures import Block, Cosine, Positive, Rate, Sha256
from qface_toolkit.untrusted.json import json_bytes, read_json

TRAINING = "training.json"
TRAINING_VERSION: Literal[1] = 1
LARGEST_TRAINING_BYTES = 64_000_000
MISTAKES_SHOWN = 10
LARGEST = 10**15

Counted = Annotated[int, Field(ge=0, le=LARGEST)]
Ordinal = Annotated[int, Field(ge=1, le=LARGEST)]
Seconds = Annotated[float, Field(ge=0)]
Side = Annotated[int, Field(ge=1, le=10_000)]
Far = Annotated[str, Field(pattern=r"^[0-9.e+-]{1,12}$")]
"""A false accept rate as it is written, such as 1e-3."""


class TrainedModel(Block):
    """The student: `started_from` is the checkpoint it went on from, or empty; `sha256` that of its file.

    `mean` and `std` are on the scale 0..255, one number a channel; `crop` says where a face stands in the input.
    """

    name: str
    sha256: Sha256
    parameters: Ordinal
    embedding_size: Ordinal
    input_size: tuple[Side, Side]
    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=3)]
    std: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=3)]
    color: Literal["rgb", "bgr", "gray"]
    crop: Literal["arcface", "facenet", "dlib", "none"] = "arcface"
    license: str = "unknown"
    started_from: str = ""


class Teacher(Block):
    """A network to learn from, and the epoch, counted from 1, from which on it is."""

    name: str
    sha256: Sha256
    embedding_size: Ordinal
    from_epoch: Ordinal
    license: str = "unknown"


class TrainingData(Block):
    """What was learnt from; `identities` is 0 without labels, `details` what else the kind of data tells."""

    kind: str
    name: str
    examples: Ordinal
    identities: Counted
    sha256: Sha256
    contains_no_real_face_data: bool | None
    held_out: Counted = 0
    details: dict[str, Any] = {}


class Skipped(Block):
    """An image that could not be read, and why."""

    name: str
    why: str


class Point(Block):
    """Means since the last point: the whole loss and its weighted parts by name; `rate` is the learning rate.

    `epoch` is how many are over, as a fraction; `gradient` is the gradient's length, None where it was not finite.
    """

    step: Ordinal
    epoch: Annotated[float, Field(ge=0)]
    loss: float
    rate: float
    gradient: float | None
    parts: dict[str, float]


class EpochEnd(Block):
    """The end of an epoch, counted from 1: figures on held-out images, as far as there are any.

    `cosine_mean` is to the teacher; `pair_accuracy` and `tar` need labels.
    """

    epoch: Ordinal
    step: Ordinal
    loss: float
    seconds: Seconds
    cosine_mean: Cosine | None = None
    pair_accuracy: Rate | None = None
    eer: Rate | None = None
    tar: dict[Far, Rate] = {}
    snapshot: str = ""


class Training(Block):
    """One training as a whole; `recipe` is the training recipe in full.

    `finished` says why it ended: "all epochs", or "no better for N epochs". `chosen_epoch` is the one whose weights
    were kept. `seconds` is the time in steps, of all processes that had a part in it, and `images` how many were shown
    to the student in it, one image as often as it was. `device` names what the steps ran on, where that is no CPU.
    """

    version: Literal[1] = TRAINING_VERSION
    command: str
    student: TrainedModel
    teachers: tuple[Teacher, ...]
    data: TrainingData
    recipe: dict[str, Any]
    points: tuple[Point, ...]
    epochs: tuple[EpochEnd, ...]
    skipped_count: Counted = 0
    skipped: tuple[Skipped, ...] = ()
    finished: str
    chosen_epoch: Ordinal
    steps: Ordinal
    images: Ordinal
    seconds: Seconds
    peak_memory_bytes: Counted
    resumed: Counted = 0
    ranks: Ordinal = 1
    device: str = ""
    environment: Environment
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _epochs_fit(self) -> "Training":
        numbers = [one.epoch for one in self.epochs]
        if any(after <= before for before, after in zip(numbers, numbers[1:], strict=False)):
            raise ValueError("the epochs are not in order")
        if numbers and self.chosen_epoch not in numbers:
            raise ValueError(f"epoch {self.chosen_epoch} was kept, and is none of the epochs")
        return self

    @model_validator(mode="after")
    def _channels_fit(self) -> "Training":
        channels = 1 if self.student.color == "gray" else 3
        if {len(self.student.mean), len(self.student.std)} != {channels}:
            raise ValueError(f"mean and std are not those of {channels} channel(s)")
        return self


def training_bytes(training: Training) -> bytes:
    """Return a training as the JSON that `read_training` reads."""
    return json_bytes(training.model_dump(mode="json"))


def read_training(path: Path) -> Training:
    """Return the training in a file, which may have been edited, cut short or made with another version.

    Raises:
        ArtifactError: naming the version if it is another one, or the first mistakes.
    """
    values = read_json(path, LARGEST_TRAINING_BYTES)
    version, fix = values.get("version"), "train again with `qface train`"
    if type(version) is not int or version != TRAINING_VERSION:
        what = f"this training has version {version!r}; version {TRAINING_VERSION} is known"
        raise ArtifactError(what, where=str(path), fix=fix)
    try:
        # Read as JSON and not as Python values: there, a list would not pass for a tuple under strict rules.
        return Training.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        found = [f"\n  {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:MISTAKES_SHOWN]]
        what = f"this is not a whole training:{''.join(found)}"
        raise ArtifactError(what, where=str(path), fix=fix) from error
