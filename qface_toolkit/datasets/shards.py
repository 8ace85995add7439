"""webdataset's tar shards, read in any order: their headers are indexed once, and a sample is then a place in a file.

webdataset streams shards and shuffles what it holds at a time. With an index every shuffle is exact, and so is going on
where a training stopped.
"""

import functools
import hashlib
import os
from array import array
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qface_toolkit.datasets._base import UNKNOWN, Example, FaceData, Opening
from qface_toolkit.datasets._files import LARGEST_BYTES, PlacedFile
from qface_toolkit.datasets._labels import Labels, count_identities, read_only
from qface_toolkit.datasets._patterns import names_shards, shard_files
from qface_toolkit.datasets._pixels import crop_of
from qface_toolkit.datasets._tar import Sample, read_samples
from qface_toolkit.errors import CalibrationError
from qface_toolkit.untrusted.reading import open_file, printable

_NOUN = "tar shard"
_OPEN_FILES = 64
_BLOCK, _NAME = 512, 100


class Shards:
    """The kind of data that webdataset packs; see Dataset."""

    def recognises(self, source: str) -> bool:
        """Tell whether this is a pattern of .tar files; commands and addresses count, to be refused in words."""
        return names_shards(source)

    def open(self, source: str, opening: Opening) -> FaceData:
        """Return the samples of all shards, in order, after reading every header once: a minute for a million.

        Raises:
            CalibrationError: if a shard is missing or damaged, only some samples are labelled, or labels have a hole.
        """
        files = shard_files(source)
        index = _Index(files)
        for number in range(len(files)):
            index.add_shard(number)
            opening.progress(number + 1, len(files))
        if not index.sizes:
            fix = "give shards whose samples hold a jpg, jpeg, png, webp or bmp"
            raise CalibrationError("the shards hold no image", where=source, fix=fix)
        return ShardData(printable(Path(source).name), index, index.identities(source))


class _Index:
    """Where each sample lies: the number of its shard, place and size in bytes, and its label."""

    def __init__(self, files: list[Path]) -> None:
        self.files, self.lengths = files, array("q")
        self.shards, self.offsets, self.sizes, self.labels = array("i"), array("q"), array("i"), array("i")

    def add_shard(self, number: int) -> None:
        path = self.files[number]
        with open_file(path, LARGEST_BYTES, noun=_NOUN, kind=CalibrationError) as file:
            self.lengths.append(os.fstat(file.fileno()).st_size)
            for sample in read_samples(file, path):
                self._add(number, sample)

    def identities(self, source: str) -> int:
        """Return how many identities there are, 0 without labels."""
        return count_identities(np.frombuffer(self.labels, np.int32), source) if self.labels else 0

    def _add(self, number: int, sample: Sample) -> None:
        if self.sizes and bool(self.labels) == (sample.label is None):
            here, before = ("no label", "have one") if sample.label is None else ("a label", "have none")
            what = f"the sample {printable(sample.key)!r} has {here}, and those before it {before}"
            raise CalibrationError(what, where=str(self.files[number]), fix="label all of them or none")
        self.shards.append(number)
        self.offsets.append(sample.offset)
        self.sizes.append(sample.size)
        if sample.label is not None:
            self.labels.append(sample.label)


class ShardData:
    """Images in tar shards by their places; see FaceData."""

    kind = "shards"
    contains_no_real_face_data: bool | None = None

    def __init__(self, name: str, index: _Index, identities: int) -> None:
        self.name = name
        self.identities = identities
        self._index = index
        self._labels = read_only(np.frombuffer(index.labels, np.int32)) if identities else None
        # A shard that falls out is closed when the last thread that reads from it is done.
        self._file = functools.lru_cache(maxsize=_OPEN_FILES)(functools.partial(_opened, index))

    def __len__(self) -> int:
        return len(self._index.sizes)

    def example(self, index: int) -> Example:
        file = self._file(self._index.shards[index])
        offset = self._index.offsets[index]
        data = file.read(offset, self._index.sizes[index])
        label = UNKNOWN if self._labels is None else int(self._labels[index])
        return Example(crop_of(data, _where(file, offset)), label)

    def labels(self) -> Labels | None:
        return self._labels

    def traits(self) -> npt.NDArray[np.float32] | None:
        return None

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"shards {len(self)} {self.identities}".encode())
        kept = self._index
        for numbers in (kept.lengths, kept.shards, kept.offsets, kept.sizes, kept.labels):
            digest.update(numbers)
        return digest.hexdigest()


def _opened(index: _Index, number: int) -> PlacedFile:
    file = PlacedFile(index.files[number], _NOUN)
    if file.size != index.lengths[number]:
        fix = "leave shards alone while they are in use"
        raise CalibrationError("the shard has changed since it was indexed", where=str(file.path), fix=fix)
    return file


def _where(file: PlacedFile, offset: int) -> str:
    """Return what to call a member, whose names are not kept: that in its header, which stands before it."""
    name = file.read(offset - _BLOCK, _NAME).rstrip(b"\0")
    return f"{file.path}, member {printable(name)} (byte {offset})"


ENTRIES = {"shards": Shards()}
