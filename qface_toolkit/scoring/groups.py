"""Whether compression costs one group of people more than another: every loss within each group, with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.accuracy import FaceSet, Figures, Samples, compare, draw_figures, estimates
from qface_toolkit.scoring.blocks import count_owned
from qface_toolkit.scoring.every_pair import supported
from qface_toolkit.scoring.joint import affordable
from qface_toolkit.scoring.resampling import Draws
from qface_toolkit.scoring.separation import FARS
from qface_toolkit.scoring.verification import Floats, far_key

_LOSSES = ("cosine_mean", "cosine_p1", "tar_lost@", "mixed_tar_lost@")
LEAST_PEOPLE = 10


@dataclass(frozen=True)
class GroupLosses:
    """What a group loses; both images of a pair are of the group.

    `figures` are named as in `scoring.accuracy`: cosine_mean, cosine_p1, tar_lost@FAR and mixed_tar_lost@FAR; `gaps`
    are the same less those of all images. `unsupported` are the rates for which the group has too few impostors.
    `skipped` says why there are no figures.
    """

    images: int
    people: int
    figures: Figures = field(default_factory=dict)
    gaps: Figures = field(default_factory=dict)
    unsupported: tuple[str, ...] = ()
    skipped: str | None = None


def measure_groups(
    reference: Floats,
    other: Floats,
    faces: FaceSet,
    groups: Sequence[str | None],
    draws: Draws,
    fars: Sequence[float] = FARS,
    least_people: int = LEAST_PEOPLE,
) -> dict[str, GroupLosses]:
    """Compare a model with its reference within each group, in the order of their names; `groups` has one an image.

    An image without a group (None or "") counts for all images alone.

    Raises:
        MeasurementError: if there is not one group for each image, an embedding is zero or not finite, or all images
            together have no genuine or no impostor pairs.
    """
    if len(groups) != len(faces.owners):
        what = f"{len(groups)} groups came for {len(faces.owners)} images"
        raise MeasurementError(what, where="groups", fix="give one group, or none, for each image")
    labels = np.array([group or "" for group in groups])
    everybody = _losses(reference, other, faces, draws, fars)
    found = {}
    for name in sorted({*labels.tolist()} - {""}):
        rows = np.flatnonzero(labels == name)
        found[name] = _group(reference, other, _within(faces, rows), rows, draws, fars, least_people, everybody)
    return found


def _within(faces: FaceSet, rows: npt.NDArray[np.intp]) -> FaceSet:
    return FaceSet(faces.owners[rows], np.flatnonzero(np.isin(rows, faces.compared)))


def _group(
    reference: Floats,
    other: Floats,
    faces: FaceSet,
    rows: npt.NDArray[np.intp],
    draws: Draws,
    fars: Sequence[float],
    least_people: int,
    everybody: Samples,
) -> GroupLosses:
    people = len(np.unique(faces.owners))
    if people < least_people:
        skipped = f"{people} people are too few for an interval: at least {least_people} are needed"
        return GroupLosses(len(rows), people, skipped=skipped)
    try:
        samples = _losses(np.asarray(reference)[rows], np.asarray(other)[rows], faces, draws, fars)
    except MeasurementError as error:
        return GroupLosses(len(rows), people, skipped=error.what)
    gaps = {name: (value - everybody[name][0], drawn - everybody[name][1]) for name, (value, drawn) in samples.items()}
    missing = tuple(far_key(far) for far in fars if f"tar_lost@{far_key(far)}" not in samples)
    return GroupLosses(len(rows), people, estimates(samples), estimates(gaps), missing)


def _losses(reference: Floats, other: Floats, faces: FaceSet, draws: Draws, fars: Sequence[float]) -> Samples:
    counts = count_owned(faces.owners[faces.compared])
    wanted = [far for far in supported(fars, counts.impostors) if affordable(counts, far)]
    samples = draw_figures(compare(reference, other, faces, draws, wanted))
    return {name: sample for name, sample in samples.items() if name.startswith(_LOSSES)}
