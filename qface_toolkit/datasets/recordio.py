"""insightface's RecordIO, in which the large training sets of faces are handed around: X.rec with X.idx beside it.

Record 0 of insightface's own files announces [a, b]: images have the keys from 1 to a - 1, and the records a to b - 1
are one an identity with the keys [start, end) of its images. Other files hold nothing but images with their labels.
"""

import hashlib
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qface_toolkit.datasets._base import UNKNOWN, Example, FaceData, Opening
from qface_toolkit.datasets._files import PlacedFile
from qface_toolkit.datasets._folders import data_name
from qface_toolkit.datasets._index import Keys, Numbers, read_index
from qface_toolkit.datasets._labels import MOST_IDENTITIES, Labels, count_identities, read_only
from qface_toolkit.datasets._pixels import crop_of
from qface_toolkit.datasets._records import SMALLEST, Floats, Records
from qface_toolkit.errors import CalibrationError
from qface_toolkit.untrusted.reading import read_file

USUAL = "train.rec"
"""What insightface calls the file: a folder that holds one is taken as it."""

_EXACT = 1 << 24
"""Up to here float32, in which labels are kept, holds every whole number: larger keys in it are rounded."""

_PROPERTY = re.compile(rb"\s*([0-9]{1,9})\s*(,[\s0-9]*)*")


class RecordIO:
    """The kind of data that insightface packs; see Dataset."""

    def recognises(self, source: str) -> bool:
        """Tell whether this is called .rec, or is a folder with a train.rec."""
        return source.endswith(".rec") or (Path(source) / USUAL).is_file()

    def open(self, source: str, opening: Opening) -> FaceData:
        """Return the images; where every label is 0, as packers write it who know none, they count as unlabelled.

        Raises:
            CalibrationError: if a file is missing or damaged, or labels have a hole.
        """
        path = Path(source) if source.endswith(".rec") else Path(source) / USUAL
        records = Records(PlacedFile(path, "RecordIO file"))
        keys, offsets, labels = _images(records, path.with_suffix(".idx"))
        unlabelled = not labels.any()
        identities = 1 if unlabelled else count_identities(labels, str(path))
        _check_property(path.with_name("property"), identities)
        kept = None if unlabelled else labels
        return RecordData(data_name(Path(source)), records, keys, offsets, kept, identities)


class RecordData:
    """Images of a RecordIO file by their offsets; see FaceData."""

    kind = "recordio"
    contains_no_real_face_data: bool | None = None

    def __init__(
        self,
        name: str,
        records: Records,
        keys: Keys,
        offsets: Numbers,
        labels: Labels | None,
        identities: int,
    ) -> None:
        self.name = name
        self.identities = 0 if labels is None else identities
        self._records, self._keys, self._offsets, self._labels = records, keys, offsets, labels

    def __len__(self) -> int:
        return len(self._offsets)

    def example(self, index: int) -> Example:
        key = int(self._keys[index])
        image = self._records.image(int(self._offsets[index]), key)
        label = UNKNOWN if self._labels is None else int(self._labels[index])
        return Example(crop_of(image, f"{self._records.file.path}, record {key}"), label)

    def labels(self) -> Labels | None:
        return self._labels

    def traits(self) -> npt.NDArray[np.float32] | None:
        return None

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"recordio {self._records.file.size} {len(self)} {self.identities}".encode())
        digest.update(self._offsets.astype("<i8", copy=False).data)
        if self._labels is not None:
            digest.update(self._labels.astype("<i4", copy=False).data)
        return digest.hexdigest()


def _images(records: Records, index: Path) -> tuple[Keys, Numbers, Labels]:
    """Return the keys, offsets and labels of the images among all records."""
    keys, offsets = read_index(index, records.file.size, SMALLEST)
    announced = _announced(records, keys, offsets)
    if announced is None:
        return _as_range(keys), offsets, _header_labels(records, keys, offsets)
    first_identity, end = announced
    images = _span(keys, 1, first_identity, "image", index)
    people = _span(keys, first_identity, end, "identity", index)
    labels = None
    if first_identity <= _EXACT and people.stop > people.start:
        labels = _range_labels(records, keys[people], offsets[people], first_identity)
    numbers, places = range(1, first_identity), offsets[images]
    return numbers, places, _header_labels(records, numbers, places) if labels is None else labels


def _announced(records: Records, keys: Numbers, offsets: Numbers) -> tuple[int, int] | None:
    """Return what record 0 announces, if there is one and it is no image: the end of the images and of identities."""
    if keys[0] != 0:
        return None
    labels, image = records.labels_and_image(int(offsets[0]), 0)
    if image or len(labels) == 1:
        return None
    first_identity, end = _whole(records, labels[:2], np.zeros(2, np.int64)).tolist()
    if not 1 < first_identity <= end:
        raise records.broken(0, f"announces images to {first_identity} and identities to {end}, which cannot be")
    return first_identity, end


def _span(keys: Numbers, start: int, end: int, noun: str, index: Path) -> slice:
    """Return where the keys from start to end - 1 stand, once all are there."""
    first, last = np.searchsorted(keys, (start, end)).tolist()
    if last - first != end - start:
        missing = next(key for at, key in enumerate(range(start, end)) if at >= last - first or keys[first + at] != key)
        what = f"record 0 announces a record {missing} of an {noun}, and the index has none"
        raise CalibrationError(what, where=str(index), fix="copy or download the .rec and the .idx again")
    return slice(first, last)


def _header_labels(records: Records, keys: Keys, offsets: Numbers) -> Labels:
    """Return the labels that the images' own headers hold."""
    labels = np.empty(len(keys), np.int32)
    done = 0
    for chunk in records.first_labels(offsets, keys, 1):
        labels[done : done + len(chunk)] = _whole(records, chunk[:, 0], keys[done : done + len(chunk)])
        done += len(chunk)
    return read_only(labels)


def _range_labels(records: Records, keys: Numbers, offsets: Numbers, end: int) -> Labels | None:
    """Return the labels that the identities' ranges give the images 1 to end - 1, or None if they leave some out."""
    found = np.concatenate(list(records.first_labels(offsets, keys, 2)))
    starts, ends = (_whole(records, found[:, column], keys) for column in range(2))
    order = np.argsort(starts, kind="stable")
    wrong = np.flatnonzero((starts < 1) | (ends > end) | (ends < starts))
    if len(wrong):
        at = wrong[0]
        raise records.broken(int(keys[at]), f"gives an identity the images {starts[at]} to {ends[at]}, not all there")
    overlaps = np.flatnonzero(ends[order][:-1] > starts[order][1:])
    if len(overlaps):
        one, other = keys[order[overlaps[0] : overlaps[0] + 2]].tolist()
        raise records.broken(one, f"gives an identity images that record {other} gives to another")
    if (ends == starts).any():
        hole = int(np.flatnonzero(ends == starts)[0])
        raise records.broken(int(keys[hole]), f"leaves labels with a hole: identity {hole} has no image")
    if (ends - starts).sum() != end - 1:
        return None
    return read_only(np.repeat(order.astype(np.int32), (ends - starts)[order]))


def _whole(records: Records, labels: Floats, keys: Keys) -> Numbers:
    """Return labels as whole numbers, once they are some."""
    good = (labels >= 0) & (labels < MOST_IDENTITIES) & (np.trunc(labels) == labels)
    if not good.all():
        at = int(np.argmin(good))
        raise records.broken(int(keys[at]), f"has the label {labels[at]}, which is no number of an identity")
    return labels.astype(np.int64)


def _check_property(file: Path, identities: int) -> None:
    """Compare with the file that says how many identities there are, if there is one."""
    if not file.is_file():
        return
    text = read_file(file, 1000, noun="property file", kind=CalibrationError)
    found = _PROPERTY.fullmatch(text)
    fix = "correct the file to the number of identities, height and width (85742,112,112), or remove it"
    if found is None:
        raise CalibrationError("this does not say how many identities there are", where=str(file), fix=fix)
    if int(found[1]) != identities:
        what = f"it says {int(found[1])} identities and the labels say {identities}"
        raise CalibrationError(what, where=str(file), fix=fix)


def _as_range(keys: Numbers) -> Keys:
    """Return keys that follow each other, as they mostly do, in no memory."""
    first, last = int(keys[0]), int(keys[-1])
    return range(first, last + 1) if last - first + 1 == len(keys) else keys


ENTRIES = {"recordio": RecordIO()}
