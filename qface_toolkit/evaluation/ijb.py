"""IJB-B and IJB-C as images to embed, one by one, and templates to compare; only text files and landmarks are kept."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation._base import FaceImages, shown_name
from qface_toolkit.evaluation._ijb_text import Names, read_detections, read_pair_list, read_templates
from qface_toolkit.evaluation.align import TEMPLATE, align
from qface_toolkit.framing import STANDARD, Frame
from qface_toolkit.sources import Crop
from qface_toolkit.untrusted.images import decode, read_bytes
from qface_toolkit.untrusted.reading import file_sha256

IjbName: TypeAlias = Literal["ijbb", "ijbc"]
IJB_NAMES: tuple[IjbName, ...] = ("ijbb", "ijbc")
FORMATS = ("JPEG", "PNG")
PICTURES = "loose_crop"
_ALIGNMENT = f"similarity, bilinear, black outside, 1 {TEMPLATE.tolist()}"
_LAYOUT = (
    "give a folder with meta/ijbc_face_tid_mid.txt, meta/ijbc_template_pair_label.txt, meta/ijbc_name_5pts_score.txt "
    "and loose_crop/, or the same with ijbb"
)


@dataclass(frozen=True)
class IjbSet:
    """A 1:1 protocol: images, each of a template and a medium, and pairs of templates, all in the files' order.

    `templates` int32 [N], `first` and `second` int32 [P] are places in `template_ids`, int32 [T], which are the files'
    own numbers, sorted; `media` are the files' own, int32 [N]; `detector` are the detector's scores, float32 [N];
    `same` is bool [P]. `description` goes into reports.
    """

    images: FaceImages
    templates: npt.NDArray[np.int32]
    media: npt.NDArray[np.int32]
    detector: npt.NDArray[np.float32]
    template_ids: npt.NDArray[np.int32]
    first: npt.NDArray[np.int32]
    second: npt.NDArray[np.int32]
    same: npt.NDArray[np.bool_]
    description: dict[str, Any]
    notes: tuple[str, ...] = ()


def read_ijb(folder: Path, name: IjbName | None = None, progress: Callable[[str], None] | None = None) -> IjbSet:
    """Read the text files of a 1:1 protocol and see that every image is there; no image is decoded yet.

    `progress` is told what is being read. Without `name`, the folder must hold one of the two protocols.

    Raises:
        MeasurementError: if a file is missing or damaged, the files do not fit each other, or an image is missing.
    """
    used = name or _only_protocol(folder)
    say = progress or (lambda _: None)
    tid_mid, detections, pairs = (
        folder / "meta" / f"{used}_{what}.txt" for what in ("face_tid_mid", "name_5pts_score", "template_pair_label")
    )
    say(f"reading {tid_mid.name} and {detections.name}")
    names, numbers, media = read_templates(tid_mid)
    detected, landmarks, scores = read_detections(detections)
    _check_same_names(names, detected, tid_mid, detections)
    say(f"looking for {len(names)} images")
    _check_pictures(folder / PICTURES, names)
    say(f"reading {pairs.name}")
    template_ids, templates = np.unique(numbers, return_inverse=True)
    first, second, same = read_pair_list(pairs, template_ids)
    if same.all() or not same.any():
        raise MeasurementError("the pairs are all of one kind", where=str(pairs), fix="give the whole file")
    description = {
        "kind": "ijb",
        "name": shown_name(folder),
        "protocol": used,
        "images": len(names),
        "people": None,
        "templates": len(template_ids),
        "pairs": len(same),
        "genuine_pairs": int(same.sum()),
        "sha256": _files_sha256(tid_mid, detections, pairs),
    }
    images = _IjbImages(folder / PICTURES, names, landmarks)
    places = templates.astype(np.int32)
    return IjbSet(images, places, media, scores, template_ids, first, second, same, description)


def has_protocol(folder: Path, name: IjbName) -> bool:
    """Tell whether a folder seems to hold this protocol."""
    return (folder / "meta" / f"{name}_face_tid_mid.txt").is_file()


def _only_protocol(folder: Path) -> IjbName:
    there = [name for name in IJB_NAMES if has_protocol(folder, name)]
    if len(there) == 1:
        return there[0]
    what = "this folder holds both IJB-B and IJB-C" if there else "this folder holds neither IJB-B nor IJB-C"
    fix = "give each a folder of its own" if there else _LAYOUT
    raise MeasurementError(what, where=str(folder), fix=fix)


def _check_same_names(names: Names, detected: Names, tid_mid: Path, detections: Path) -> None:
    """Refuse two lists of images that do not go line by line: the field's own evaluation joins them by line."""
    if len(names) != len(detected):
        what = f"{tid_mid.name} has {len(names)} images and {detections.name} has {len(detected)}"
        raise MeasurementError(what, where=str(tid_mid.parent), fix="give files of one and the same protocol")
    if names.joined == detected.joined and np.array_equal(names.ends, detected.ends):
        return
    row = next(row for row in range(len(names)) if names[row] != detected[row])
    what = f"line {row + 1} is {names[row]!r} in {tid_mid.name} and {detected[row]!r} in {detections.name}"
    raise MeasurementError(what, where=str(tid_mid.parent), fix="give files of one and the same protocol")


def _check_pictures(folder: Path, names: Names) -> None:
    missing = [row for row in range(len(names)) if not (folder / names[row]).is_file()]
    if missing:
        what = f"{len(missing)} of {len(names)} images are missing, the first is {names[missing[0]]!r}"
        raise MeasurementError(what, where=str(folder), fix="unpack all images of the protocol there")


def _files_sha256(*files: Path) -> str:
    """Return one SHA-256 of these files; hashing half a million pictures as well would read all of them twice."""
    return hashlib.sha256("".join(file_sha256(file) for file in files).encode()).hexdigest()


class _IjbImages:
    """The pictures of a protocol, aligned when they are asked for; see FaceImages."""

    def __init__(self, folder: Path, names: Names, landmarks: npt.NDArray[np.float32]) -> None:
        self._folder = folder
        self._names = names
        self._landmarks = landmarks

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return f"{PICTURES}/{self._names[index]}"

    def digest(self, index: int) -> str:
        whole = hashlib.sha256(_ALIGNMENT.encode() + self._landmarks[index].astype("<f4").tobytes())
        whole.update(read_bytes(self._folder / self._names[index]))
        return whole.hexdigest()

    def crop(self, index: int, frame: Frame = STANDARD) -> Crop:
        where = self.name(index)
        pixels = decode(read_bytes(self._folder / self._names[index]), FORMATS, where)
        try:
            return align(pixels, self._landmarks[index], frame)
        except ValueError as error:
            raise MeasurementError(f"an image cannot be aligned: {error}", where=where, fix="mend its line") from error
