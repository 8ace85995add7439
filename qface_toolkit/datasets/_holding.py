"""Part of the data kept out of training, to see on people who were never seen how well it goes."""

import hashlib

import numpy as np
import numpy.typing as npt

from qface_toolkit.datasets._base import UNKNOWN, Example, FaceData
from qface_toolkit.datasets._labels import Labels, read_only
from qface_toolkit.errors import CalibrationError

Places = npt.NDArray[np.int32]


def hold_out(data: FaceData, *, count: int, identities: int, seed: int = 0) -> tuple[FaceData, FaceData]:
    """Return data in two parts, for training and held out, that share no identity, chosen at random by the seed.

    With labels whole identities are held out, `identities` of them; without labels `count` single images. Both parts
    keep the order, and number their identities from 0 without a hole.

    Raises:
        CalibrationError: if none are asked for, or too few are left: one image, or two identities.
    """
    labels = data.labels()
    wanted, there = (count, len(data)) if labels is None else (identities, data.identities)
    least = 1 if labels is None else 2
    if not 1 <= wanted <= there - least:
        noun = "images" if labels is None else "identities"
        what = f"{wanted} {noun} are to be held out, of {there}"
        fix = f"hold out one at least, and leave {least} at least for training"
        raise CalibrationError(what, where=data.name, fix=fix)
    chosen = np.zeros(there, bool)
    chosen[np.random.default_rng([seed, 4]).choice(there, wanted, replace=False)] = True
    return _part(data, labels, ~chosen), _part(data, labels, chosen)


def _part(data: FaceData, labels: Labels | None, chosen: npt.NDArray[np.bool_]) -> "_Part":
    """Return the images, or those of the identities, that are chosen."""
    if labels is None:
        return _Part(data, _places(chosen), None)
    return _Part(data, _places(chosen[labels]), _places(chosen))


def _places(chosen: npt.NDArray[np.bool_]) -> Places:
    return np.flatnonzero(chosen).astype(np.int32)


class _Part:
    """Some images of data, by their indices [images] there; see FaceData.

    `people` [identities], ascending, are the labels there of those that are 0, 1, 2, ... here.
    """

    def __init__(self, data: FaceData, places: Places, people: Places | None) -> None:
        self.kind, self.name = data.kind, data.name
        self.identities = 0 if people is None else len(people)
        self.contains_no_real_face_data = data.contains_no_real_face_data
        self._data, self._places, self._people = data, places, people
        known = data.labels()
        self._labels = None if known is None or people is None else _renumbered(known[places], people)

    def __len__(self) -> int:
        return len(self._places)

    def example(self, index: int) -> Example:
        crop = self._data.example(int(self._places[index])).crop
        return Example(crop, UNKNOWN if self._labels is None else int(self._labels[index]))

    def labels(self) -> Labels | None:
        return self._labels

    def traits(self) -> npt.NDArray[np.float32] | None:
        known = self._data.traits()
        return known if known is None or self._people is None else known[self._people]

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self._data.fingerprint().encode())
        digest.update(self._places.astype("<i4", copy=False).data)
        return digest.hexdigest()


def _renumbered(labels: Labels, people: Places) -> Labels:
    return read_only(np.searchsorted(people, labels))
