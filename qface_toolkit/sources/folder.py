"""The user's own crops, for example from a face generator, read from a folder that may hold anything."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from qface_toolkit.errors import CalibrationError
from qface_toolkit.framing import CROP_SIZE, STANDARD, Frame
from qface_toolkit.sources._base import Crop, CropsByIndex, Provenance
from qface_toolkit.untrusted.images import decode, image_size, read_bytes

if TYPE_CHECKING:
    from qface_toolkit.models import FloatModel

SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
FORMATS = tuple(sorted(set(SUFFIXES.values())))
_NOUN = "a calibration image"
ALIGN = f"give square crops on the usual five-point template, {CROP_SIZE}x{CROP_SIZE} or larger, or remove the file"


class FolderOptions(BaseModel):
    """Where the images are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path = Field(description="a folder of aligned square crops: PNG, JPEG, BMP or WebP")


class Folder:
    """The calibration source of the user's own crops; see Source."""

    options: type[BaseModel] = FolderOptions

    def provenance(
        self,
        options: Any,  # noqa: ANN401  see Source
        *,
        count: int,
        model: "FloatModel | None" = None,
    ) -> Provenance:
        """Return that it is unknown whose faces these are, and how many of them are no crops of the usual size."""
        sizes = [_side(file) for file in _chosen(options.path, count)]
        others = sorted({side for side in sizes if side != CROP_SIZE})
        resized = (f"{sizes.count(side)} of {count} images are {side}x{side} and were resized" for side in others)
        return Provenance(None, tuple(resized))

    def open(
        self,
        options: Any,  # noqa: ANN401  see Source
        *,
        count: int,
        seed: int,
        model: "FloatModel | None" = None,
        frame: Frame = STANDARD,
    ) -> CropsByIndex:
        """Return `count` of the folder's files, sorted by name and spread evenly over it; the seed changes nothing.

        Raises:
            CalibrationError: if there are too few files, or one is unreadable or of the wrong size.
        """
        chosen = _chosen(options.path, count)
        for file in chosen:
            _read(file)
        return CropsByIndex(count, partial(_framed, chosen, frame))


def _chosen(folder: Path, count: int) -> list[Path]:
    files = _image_files(folder)
    if len(files) < count:
        raise CalibrationError(
            f"{count} calibration images were asked for and the folder holds {len(files)}",
            where=str(folder),
            fix=f"ask for {len(files)} images (calibration.count, or --count) or add more",
        )
    return [files[place * len(files) // count] for place in range(count)]


def _image_files(folder: Path, noun: str = _NOUN) -> list[Path]:
    kind = noun.partition(" ")[2]
    if not folder.is_dir():
        raise CalibrationError(f"there is no such folder of {kind}s", where=str(folder), fix="check the path")
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    except OSError as error:
        raise CalibrationError(f"the folder cannot be read: {error.strerror or error}", where=str(folder)) from error
    if not files:
        raise CalibrationError(
            f"the folder holds no {kind}s",
            where=str(folder),
            fix=f"put {CROP_SIZE}x{CROP_SIZE} PNG or JPEG crops there",
        )
    return files


def _framed(files: list[Path], frame: Frame, index: int, noun: str = _NOUN) -> Crop:
    crop = decode(_read(files[index], noun), FORMATS, str(files[index]), noun=noun, kind=CalibrationError)
    return frame.take(crop)


def _side(file: Path) -> int:
    return image_size(_read(file), FORMATS, str(file), noun=_NOUN, kind=CalibrationError)[0]


def _read(file: Path, noun: str = _NOUN) -> bytes:
    """Return a file's bytes, once it announces a square crop."""
    data = read_bytes(file, noun=noun.partition(" ")[2], kind=CalibrationError)
    width, height = image_size(data, FORMATS, str(file), noun=noun, kind=CalibrationError)
    if width != height:
        raise CalibrationError(f"{noun} is {width}x{height}, not square", where=str(file), fix=ALIGN)
    return data


def listed_crops(folder: Path, *, most: int, frame: Frame = STANDARD) -> Crop:
    """Return crops of a folder, or of the folders of people inside it, in a frame: uint8 [N, H, W, 3], `most` at most.

    They are sorted by name and spread evenly.

    Raises:
        CalibrationError: if there are none, or one is unreadable or not square.
    """
    inside = sorted(one for one in folder.iterdir() if one.is_dir()) if folder.is_dir() else []
    files = [file for one in inside for file in sorted(one.iterdir()) if file.suffix.lower() in SUFFIXES]
    files = files or _image_files(folder, "a crop")
    count = min(most, len(files))
    chosen = [files[place * len(files) // count] for place in range(count)]
    return np.stack([_framed(chosen, frame, index, "a crop") for index in range(count)])


ENTRIES = {"folder": Folder()}
