"""The images that every contender of the head-to-head is scored on, and what is said of each.

Aligned faces of real people where they are given, with the pairs of a .bin file; drawings of people whom no step has
seen otherwise. Real faces are for evaluation, and for calibrating peers that need them: then with images that TAR is
not taken over.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from peers._base import Crops
from runtimes import Run
from score_faces import open_album

from qface_toolkit.measure.accuracy import FaceSet, first_of_each
from qface_toolkit.measure.agreement import measure_agreement
from qface_toolkit.measure.every_pair import score_every_pair
from qface_toolkit.measure.verification import fold_accuracy, make_pairs, squared_distances, unit_rows
from qface_toolkit.models import ModelSpec
from qface_toolkit.sources import load_crops, pixel_sha256
from qface_toolkit.sources._sets import find_set

FAR, BATCH, MOST = 1e-4, 16, 10
IMAGES_EACH = 8
Embeddings = np.ndarray


@dataclass(frozen=True)
class ScoredSet:
    """Crops, whose they are and which are compared, and what the set is, in words and numbers."""

    crops: Crops
    faces: FaceSet
    about: dict[str, Any]

    def calibration(self, count: int) -> Crops:
        """Return real faces to calibrate a peer on, of those that are not among the first ten of a person."""
        owners = self.faces.owners
        turns = np.zeros(len(owners), dtype=np.intp)
        for owner in np.unique(owners):
            turns[owners == owner] = np.arange((owners == owner).sum())
        order = np.argsort(turns, kind="stable")
        return self.crops[order[turns[order] >= MOST][:count]]


def open_faces(people: Path, pairs: Path | None, folds: int) -> ScoredSet:
    """Read a folder of people and the pairs that are drawn from it."""
    album = open_album(people, pairs, folds)
    return ScoredSet(album.crops, album.faces, _about("aligned faces of real people", album.faces, album.sha256))


def draw_faces(people: int) -> ScoredSet:
    """Draw people whose attribute values no calibration set uses, eight images each."""
    crops = load_crops(find_set("drawings-heldout").open(count=people * IMAGES_EACH))
    owners = np.repeat(np.arange(people), IMAGES_EACH)
    faces = FaceSet(owners, first_of_each(owners), make_pairs(owners, per_fold=min(300, people * 2), folds=10))
    return ScoredSet(crops, faces, _about("drawings of people that calibration never saw", faces, pixel_sha256(crops)))


def _about(what: str, faces: FaceSet, sha256: str) -> dict[str, Any]:
    return {
        "what": what, "images": len(faces.owners), "people": int(faces.owners.max()) + 1,
        "compared": len(faces.compared), "most_images_a_person": MOST,
        "pairs": 0 if faces.pairs is None else len(faces.pairs.same),
        "folds": 0 if faces.pairs is None else faces.pairs.folds, "sha256": sha256,
    }  # fmt: skip


def embed(run: Run, scored: ScoredSet, spec: ModelSpec) -> Embeddings:
    """Return the embeddings of all images."""
    starts = range(0, len(scored.crops), BATCH)
    return np.concatenate([run(spec.preprocess(scored.crops[at : at + BATCH])) for at in starts])


def score(reference: Embeddings, other: Embeddings, faces: FaceSet) -> dict[str, Any]:
    """Return the figures of one contender against the float model's embeddings of the same images."""
    agreement = measure_agreement(reference, other)
    figures = {"cosine_mean": agreement.cosine_mean, "cosine_p1": agreement.cosine_p1}
    found = score_every_pair(other[faces.compared], faces.owners[faces.compared], (FAR,))
    figures["tar"] = {"1e-4": float(found.tar((FAR,))[0])}
    if faces.pairs is not None:
        distances = squared_distances(unit_rows(other), faces.pairs)
        figures["pair_accuracy"] = fold_accuracy(distances, faces.pairs.same, faces.pairs.folds)[0]
    return figures
