"""The images that every contender of the head-to-head is scored on, and what is said of each.

Aligned faces of real people where they are given, with the pairs of a .bin file; drawings of people whom no step has
seen otherwise. Real faces are for evaluation, and for calibrating peers that need them: then with images that TAR is
not taken over.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from peers import Crops
from runtimes import Run

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation import (
    Embedder,
    FaceImages,
    PairSet,
    PeopleSet,
    drawn_tones,
    embed_images,
    read_pairs,
    read_people,
    synthetic_people,
    tones_of_photographs,
)
from qface_toolkit.framing import STANDARD, Frame
from qface_toolkit.models import ModelSpec
from qface_toolkit.scoring.agreement import row_cosines
from qface_toolkit.scoring.compare import compare_models
from qface_toolkit.scoring.groups import LEAST_PEOPLE, losses_by_group
from qface_toolkit.scoring.identities import make_pairs
from qface_toolkit.scoring.pair_list import Pairs, measure_pair_list
from qface_toolkit.scoring.resampling import Draws, Figures, cosine_figures, draw_people, estimates, worst_person
from qface_toolkit.sources import pixel_sha256

FAR, MOST = 1e-4, 10


@dataclass(frozen=True)
class Faces:
    """Who is on which image: `owners` [N] are whole numbers from 0, `compared` the rows that TAR is taken over.

    `pairs` are those of a verification set, by row, where there is one. `tones` [N] are those of the images.
    """

    owners: np.ndarray
    compared: np.ndarray
    pairs: Pairs | None = None
    tones: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoredSet:
    """Images, whose they are and which are compared, and what the set is, in words and numbers."""

    images: FaceImages
    faces: Faces
    about: dict[str, Any]

    def calibration(self, count: int) -> Crops:
        """Return real faces to calibrate a peer on, of those that are not among the first ten of a person."""
        owners = self.faces.owners
        turns = np.zeros(len(owners), dtype=np.intp)
        for owner in np.unique(owners):
            turns[owners == owner] = np.arange((owners == owner).sum())
        order = np.argsort(turns, kind="stable")
        return np.stack([self.images.crop(int(row)) for row in order[turns[order] >= MOST][:count]])


def open_faces(folder: Path, pairs: Path | None, folds: int) -> ScoredSet:
    """Read a folder of people and the pairs that are drawn from it."""
    people = read_people(folder)
    return _scored(people, None if pairs is None else _rows_of(read_pairs(pairs, folds), people))


def draw_faces(people: int) -> ScoredSet:
    """Draw people whose attribute values no calibration set uses."""
    drawn = synthetic_people(people)
    return _scored(drawn, make_pairs(drawn.owners, per_fold=min(300, 2 * people)))


def embed(
    run: Run,
    images: FaceImages,
    spec: ModelSpec,
    *,
    files: tuple[Path, ...] = (),
    runtime: str = "",
    cache: Path | None = None,
    threads: int = 1,
) -> np.ndarray:
    """Return the embeddings of images as they are, not mirrored, with `threads` that decode.

    With a `cache` they are looked for there first, by the `files` of the model and the name and version of `runtime`.
    """
    content = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    embedder = Embedder(run, spec, spec.name, content, runtime)
    return embed_images(embedder, images, flip=False, threads=threads, cache=cache)


class GivenCrops:
    """Crops that are in memory already, as images to embed."""

    def __init__(self, crops: Crops, what: str) -> None:
        self._crops, self._what, self._sha256 = crops, what, pixel_sha256(crops)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._crops)

    def crop(self, index: int, frame: Frame = STANDARD) -> Crops:
        """Return one crop in a frame."""
        return frame.take(self._crops[index])

    def name(self, index: int) -> str:
        """Return what a message calls it."""
        return f"image {index} of {self._what}"

    def digest(self, index: int) -> str:
        """Return the hash of all of them and the place in them."""
        return hashlib.sha256(f"{self._sha256} {index}".encode()).hexdigest()


def _rows_of(found: PairSet, people: PeopleSet) -> Pairs:
    """Return a file's pairs as rows of the folder that holds the very same images."""
    rows = {people.images.digest(index): index for index in range(len(people.images))}
    places = np.array([rows[found.images.digest(index)] for index in range(len(found.images))])
    return Pairs(places[found.pairs.first], places[found.pairs.second], found.pairs.same, found.pairs.folds)


def _scored(people: PeopleSet, pairs: Pairs | None) -> ScoredSet:
    tones = _tone_names(people)
    faces = Faces(people.owners, first_of_each(people.owners), pairs, tones)
    compared = {"compared": len(faces.compared), "most_images_a_person": MOST}
    shown = {} if pairs is None else {"pairs": len(pairs.same), "folds": pairs.folds}
    return ScoredSet(people.images, faces, people.description | compared | shown)


def _tone_names(people: PeopleSet) -> tuple[str, ...]:
    """Return the skin tone of each image; none where it cannot be told."""
    try:
        groups = drawn_tones(people) if people.description["kind"] == "drawings" else tones_of_photographs(people)
    except MeasurementError as error:
        print(f"no skin tones: {error.what}")
        return ("",) * len(people.paths)
    return tuple(groups.names[group] if group >= 0 else "" for group in groups.of_image)


def first_of_each(owners: np.ndarray) -> np.ndarray:
    """Return the rows of the first images of each person."""
    rows = [np.flatnonzero(owners == owner)[:MOST] for owner in np.unique(owners)]
    return np.sort(np.concatenate(rows))


def measure_faces(
    reference: np.ndarray, other: np.ndarray, faces: Faces, draws: Draws, fars: Sequence[float]
) -> Figures:
    """Return cosines over all images, TAR over the compared ones and accuracy over the pairs, with what is lost."""
    rows = faces.compared
    compared = compare_models(reference[rows], other[rows], faces.owners[rows], draws, fars)
    rates = {name: one for name, one in compared.samples.items() if "tar" in name}
    person = {"cosine_worst_person": worst_person(row_cosines(reference, other), faces.owners, draws)}
    found = estimates(cosine_figures((reference, other), faces.owners, draws) | person | rates)
    if faces.pairs is None:
        return found
    listed = measure_pair_list(reference, other, faces.pairs, faces.owners, draws).figures
    return found | {name: listed[name] for name in ("float_pair_accuracy", "pair_accuracy", "pair_accuracy_lost")}


def score(reference: np.ndarray, other: np.ndarray, faces: Faces, draws: int) -> dict[str, Any]:
    """Return the figures of one contender against the float model's embeddings of the same images.

    What TAR loses comes with its interval, from `draws` draws of people.
    """
    drawn = draw_people(int(faces.owners.max()) + 1, draws)
    found = measure_faces(reference, other, faces, drawn, (FAR,))
    lost = found["tar_lost@1e-4"]
    figures: dict[str, Any] = {
        name: round(found[name].value, 6)
        for name in ("cosine_mean", "cosine_p1", "cosine_min", "cosine_worst_person", "pair_accuracy")
        if name in found
    }
    figures |= _tones(row_cosines(reference, other), faces, drawn)
    interval = {"value": round(lost.value, 6), "low": round(lost.low, 6), "high": round(lost.high, 6)}
    return figures | {"tar": {"1e-4": round(found["tar@1e-4"].value, 6)}, "tar_lost": {"1e-4": interval}}


def _tones(cosines: np.ndarray, faces: Faces, draws: Draws) -> dict[str, Any]:
    """Return the skin tone that loses most and its loss against the average, with the interval."""
    groups = losses_by_group(cosines, faces.owners, faces.tones, draws, LEAST_PEOPLE)
    worst = max(groups, key=lambda one: one.loss_ratio.value, default=None)
    if worst is None:
        return {}
    ratio = {end: round(getattr(worst.loss_ratio, end), 4) for end in ("value", "low", "high")}
    return {"worst_tone": {"name": worst.name, "people": worst.people, "loss_ratio": ratio}}
