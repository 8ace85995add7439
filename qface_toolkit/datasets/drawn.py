"""Calibration sets as training data: drawings above all, with whose they are and how those people look.

What takes long to draw is drawn once, into a file that can be kept; what is made or read by its index is asked for.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL

from qface_toolkit.datasets._base import UNKNOWN, Example, FaceData, Opening
from qface_toolkit.datasets._drawing import CROP_BYTES, draw_apart, draw_here, head
from qface_toolkit.datasets._files import PlacedFile
from qface_toolkit.datasets._labels import Labels, one_identity_only, read_only
from qface_toolkit.datasets.crops import Crops
from qface_toolkit.errors import CalibrationError, QFaceError
from qface_toolkit.framing import CROP_SIZE, STANDARD
from qface_toolkit.sources import Crop, CropsByIndex, ImageSet, NamedSet, drawn_traits, find_set, set_names
from qface_toolkit.sources.folder import FolderOptions
from qface_toolkit.sources.procedural import ProceduralOptions
from qface_toolkit.untrusted.reading import printable

_SHAPE = (CROP_SIZE, CROP_SIZE, 3)


class Drawn:
    """The kind of data that is a calibration set; see Dataset."""

    def recognises(self, source: str) -> bool:
        """Tell whether this is the name of a set, or that of a YAML file."""
        return source in set_names() or source.endswith((".yaml", ".yml"))

    def open(self, source: str, opening: Opening) -> FaceData:
        """Return the images of a set, after drawing them if that takes long and they are not in the cache.

        Raises:
            CalibrationError: if they cannot be had, or there is one identity only.
            RecipeError: listing every mistake in a YAML file.
            ArtifactError: if the disk refuses.
        """
        named = _asked(find_set(source), opening, source)
        options = named.options()
        per_identity = options.images_per_identity if isinstance(options, ProceduralOptions) else 1
        if 1 < per_identity >= named.count:
            raise one_identity_only(source)
        _check_frame(named, opening)
        images = named.open(model=opening.model, frame=STANDARD)
        facts = _facts(named, opening)
        if not isinstance(images, CropsByIndex):
            images = _kept(images, named, facts, opening)
        return DrawnData(printable(Path(source).stem), named, images, facts, per_identity)


class DrawnData:
    """Images of a calibration set; see FaceData. `facts` are what fixes the pixels."""

    kind = "drawn"

    def __init__(
        self, name: str, named: NamedSet, images: ImageSet, facts: dict[str, Any], images_per_identity: int
    ) -> None:
        self.name = name
        self.identities = -(-len(images) // images_per_identity) if images_per_identity > 1 else 0
        self.contains_no_real_face_data: bool | None = facts["contains_no_real_face_data"]
        self._named, self._images, self._facts, self._each = named, images, facts, images_per_identity

    def __len__(self) -> int:
        return len(self._images)

    def example(self, index: int) -> Example:
        return Example(self._images.crop(index), index // self._each if self.identities else UNKNOWN)

    def labels(self) -> Labels | None:
        return self._labels if self.identities else None

    def traits(self) -> npt.NDArray[np.float32] | None:
        return self._traits if self.identities else None

    def fingerprint(self) -> str:
        told = dict(self._facts)
        options = self._named.options()
        if isinstance(options, FolderOptions):
            told["files"] = Crops().open(str(options.path), Opening()).fingerprint()
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _labels(self) -> Labels:
        return read_only(np.arange(len(self), dtype=np.int32) // self._each)

    @cached_property
    def _traits(self) -> npt.NDArray[np.float32]:
        options = ProceduralOptions.model_validate(self._named.parameters)
        found = drawn_traits(self._named.seed, self.identities, options.attributes)
        found.flags.writeable = False
        return found


class _FileCrops:
    """Crops in a .npy file; see ImageSet."""

    def __init__(self, path: Path, count: int) -> None:
        self._file, self._count, self._start = PlacedFile(path, "file of drawings"), count, len(head(count))

    def __len__(self) -> int:
        return self._count

    def crop(self, index: int) -> Crop:
        pixels = self._file.read(self._start + index * CROP_BYTES, CROP_BYTES)
        return np.frombuffer(bytearray(pixels), np.uint8).reshape(_SHAPE)

    def whole(self) -> bool:
        """Tell whether the file is one that was written here, and all of it."""
        start = head(self._count)
        expected = len(start) + self._count * CROP_BYTES
        return self._file.size == expected and self._file.read(0, len(start)) == start


def _asked(named: NamedSet, opening: Opening, source: str) -> NamedSet:
    """Return the set with what was asked for in place of what its file says."""
    used = named.with_(opening.count, opening.seed)
    if opening.images_per_identity is None:
        return used
    if used.kind != "procedural" or opening.images_per_identity < 1:
        what = f"{opening.images_per_identity} images of each identity were asked for"
        fix = "ask for one at least, and of a set of drawings (kind: procedural): others show no one twice"
        raise CalibrationError(what, where=source, fix=fix)
    parameters = used.parameters | {"images_per_identity": opening.images_per_identity}
    return used.model_copy(update={"parameters": parameters})


def _check_frame(named: NamedSet, opening: Opening) -> None:
    # These come in the frame of the model that they are fitted to, whichever is asked for.
    if named.kind == "matched" and opening.model is not None and opening.model.spec.frame != STANDARD:
        what = "drawings that are fitted to this model are no aligned crops, since the model takes others"
        raise CalibrationError(what, fix="take a set that is fitted to no model, such as drawings")


def _facts(named: NamedSet, opening: Opening) -> dict[str, Any]:
    """Return what fixes the pixels of a set, and whose they are."""
    options = named.options()
    known = named.source().provenance(options, count=named.count, model=opening.model)
    return {
        "kind": named.kind,
        "parameters": options.model_dump(mode="json") | known.parameters,
        "count": named.count,
        "seed": named.seed,
        "contains_no_real_face_data": known.contains_no_real_face_data,
    }


def _kept(images: ImageSet, named: NamedSet, facts: dict[str, Any], opening: Opening) -> _FileCrops:
    """Return the images out of the cache, drawn into it if they are not there."""
    told = json.dumps([facts, np.__version__, PIL.__version__], sort_keys=True).encode()
    name = f"{named.kind}-{named.seed}-{named.count}-{hashlib.sha256(told).hexdigest()[:16]}.npy"
    with _folder(opening.cache) as folder:
        path = folder / name
        found = _found(path, named.count)
        if found is None:
            _draw(images, named, path, opening)
            found = _FileCrops(path, named.count)
        return found


@contextmanager
def _folder(cache: Path | None) -> Iterator[Path]:
    """Give the cache; without one a folder that is removed at once, since an open file lives on without its name."""
    if cache is not None:
        yield cache
        return
    folder = Path(tempfile.mkdtemp(prefix="qface-drawn-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _found(path: Path, count: int) -> _FileCrops | None:
    if not path.is_file():
        return None
    try:
        crops = _FileCrops(path, count)
        return crops if crops.whole() else None
    except QFaceError:
        # Whatever it is, it is drawn again and replaced.
        return None


def _draw(images: ImageSet, named: NamedSet, path: Path, opening: Opening) -> None:
    processes = min(opening.threads, named.count) if named.kind == "procedural" else 1
    if processes > 1:
        draw_apart(named, path, processes, opening.progress)
    else:
        draw_here(images, path, opening.progress)


ENTRIES = {"drawn": Drawn()}
