"""Named calibration sets: everything that fixes a set's pixels in one small file, and the writing of a set to disk.

A contact sheet shows a whole set in one picture: nobody trusts calibration images that nobody has looked at.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qface_toolkit.errors import ArtifactError, CalibrationError, QFaceError, RecipeError
from qface_toolkit.framing import STANDARD, Frame
from qface_toolkit.registry import unknown_name
from qface_toolkit.sources._base import SOURCES, Crop, ImageSet, Manifest, Source
from qface_toolkit.untrusted.json import write_json
from qface_toolkit.untrusted.writing import disk_errors, new_folder
from qface_toolkit.untrusted.yaml import read_text, read_yaml

GAP = 4
PAPER = (245, 245, 245)


def contact_sheet(crops: Crop, columns: int = 8) -> Image.Image:
    """Return the crops, uint8 [N, H, W, 3], in rows of `columns`, in order, as one RGB picture."""
    count, height, width = crops.shape[:3]
    columns = min(columns, count)
    rows = -(-count // columns)
    size = GAP + columns * (width + GAP), GAP + rows * (height + GAP)
    sheet = Image.new("RGB", size, PAPER)
    for index, crop in enumerate(crops):
        row, column = divmod(index, columns)
        sheet.paste(Image.fromarray(crop), (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return sheet


if TYPE_CHECKING:
    from qface_toolkit.models import FloatModel

PACKAGE = Path(__file__).resolve().parent.parent
SHEET_CROPS = 64


class NamedSet(BaseModel):
    """A calibration set: what to draw or read, how much of it, and what its pixels hash to.

    `checksum` is the SHA-256 of the decoded pixels of exactly `count` aligned crops of this `seed`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    count: int = Field(ge=1)
    seed: int = Field(default=0, ge=0)
    checksum: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    licence: str = "unknown"

    def source(self) -> Source:
        """Return the source that this set comes from."""
        return SOURCES.get(self.kind)

    def options(self) -> BaseModel:
        """Return the parameters as the source's own schema reads them."""
        return self.source().options.model_validate(self.parameters)

    def open(
        self,
        count: int | None = None,
        seed: int | None = None,
        model: "FloatModel | None" = None,
        frame: Frame | None = None,
    ) -> ImageSet:
        """Return the images, as many and with the seed asked for, or as the file says; `model` is what they are for.

        They are in `frame`; without one in the model's, and without a model aligned crops.

        Raises:
            CalibrationError: if the images cannot be had, or only with a model, or none are asked for.
        """
        used = self.with_(count, seed)
        framed = frame or _frame_of(model)
        return used.source().open(used.options(), count=used.count, seed=used.seed, model=model, frame=framed)

    def manifest(self, sha256: str, model: "FloatModel | None" = None) -> Manifest:
        """Return what the images of this set are, opened for `model`, whose pixels hash to `sha256`."""
        options = self.options()
        provenance = self.source().provenance(options, count=self.count, model=model)
        return Manifest(
            kind=self.kind,
            parameters=options.model_dump(mode="json") | provenance.parameters | _told(_frame_of(model)),
            seed=self.seed,
            count=self.count,
            sha256=sha256,
            contains_no_real_face_data=provenance.contains_no_real_face_data,
            warnings=provenance.warnings,
        )

    def with_(self, count: int | None, seed: int | None) -> "NamedSet":
        """Return the same set with another count or seed.

        Raises:
            CalibrationError: if no image is left.
        """
        if count is not None and count < 1:
            raise CalibrationError(f"{count} calibration images were asked for", fix="ask for one at least")
        given = {"count": count, "seed": seed}
        return self.model_copy(update={key: value for key, value in given.items() if value is not None})


def _frame_of(model: "FloatModel | None") -> Frame:
    return STANDARD if model is None else model.spec.frame


def _told(frame: Frame) -> dict[str, Any]:
    """Return what a manifest says of a frame: nothing of the aligned crop's, which checksums are of."""
    return {} if frame == STANDARD else {"crop": frame.crop, "size": list(frame.size)}


def set_names() -> tuple[str, ...]:
    """Return the names of the sets that come with the package."""
    return tuple(sorted(file.stem for file in _folder().glob("*.yaml")))


def list_sets() -> dict[str, str]:
    """Return the names of the sets that come with the package, each with the first line of its header comment."""
    files = {name: (_folder() / f"{name}.yaml").read_text("utf-8") for name in set_names()}
    return {name: text.partition("\n")[0].lstrip("# ").rstrip() for name, text in files.items()}


def find_set(name_or_path: str) -> NamedSet:
    """Return the set of this name, or the one that a YAML file of the user's describes.

    Raises:
        UnknownName: if it is neither.
        RecipeError: listing every mistake in the file.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        if name_or_path not in set_names():
            raise unknown_name("calibration set", name_or_path, set_names())
        path = _folder() / f"{name_or_path}.yaml"
    return read_set(read_yaml(read_text(path, "file of a calibration set"), where=str(path)), where=str(path))


def _folder() -> Path:
    inside = PACKAGE / "calibration"
    return inside if inside.is_dir() else PACKAGE.parent / "calibration"


def read_set(values: object, *, where: str) -> NamedSet:
    """Check plain values, as YAML gives them, and return the set they describe.

    Raises:
        RecipeError: listing every mistake with the path of its key.
    """
    mistakes = _mistakes(NamedSet, values, "")
    if isinstance(values, dict) and isinstance(values.get("kind"), str):
        mistakes += _parameter_mistakes(values["kind"], values.get("parameters", {}))
    if mistakes:
        listed = "".join(f"\n  {mistake}" for mistake in mistakes)
        raise RecipeError(f"the calibration set has {len(mistakes)} mistake(s):{listed}", where=where, fix="mend them")
    return NamedSet.model_validate(values)


def _parameter_mistakes(kind: str, parameters: object) -> list[str]:
    try:
        return _mistakes(SOURCES.get(kind).options, parameters, "parameters.")
    except QFaceError as error:
        return [f"kind: {error.what}; {error.fix}"]


def _mistakes(schema: type[BaseModel], values: object, prefix: str) -> list[str]:
    try:
        schema.model_validate(values)
    except ValidationError as error:
        return [f"{prefix}{'.'.join(map(str, one['loc'])) or '(file)'}: {one['msg']}" for one in error.errors()]
    return []


def write_set(
    named_set: NamedSet,
    out: Path,
    count: int | None = None,
    seed: int | None = None,
    model: "FloatModel | None" = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Write the set as PNG files in `out`/images with a manifest and a contact sheet; `out` is complete or absent.

    `model` is the one that the images are for; only some sources need it. `progress` is called after each image.

    Raises:
        ArtifactError: if `out` exists or cannot be written.
        CalibrationError: if the images cannot be had.
    """
    if os.path.lexists(out):
        raise ArtifactError("the output folder exists", where=str(out), fix="give another one or remove it")
    used = named_set.with_(count, seed)
    images = used.open(model=model)
    with disk_errors(out), new_folder(out) as folder:
        sha256 = _write_images(images, folder, progress)
        manifest = _checked(used.manifest(sha256, model), _checksum(named_set, used, model))
        write_json(folder / "manifest.json", manifest.as_json())
    return manifest


def _checksum(named_set: NamedSet, used: NamedSet, model: "FloatModel | None") -> str | None:
    """Return what the pixels must hash to, if that is known: of the set as it is, in aligned crops."""
    return named_set.checksum if used == named_set and _frame_of(model) == STANDARD else None


def _write_images(images: ImageSet, folder: Path, progress: Callable[[int, int], None]) -> str:
    """Write every image and the contact sheet, and return the SHA-256 of the pixels."""
    digest, shown = hashlib.sha256(), []
    (folder / "images").mkdir()
    for index in range(len(images)):
        crop = images.crop(index)
        digest.update(np.ascontiguousarray(crop).tobytes())
        Image.fromarray(crop).save(folder / "images" / f"{index:06d}.png")
        if index < SHEET_CROPS:
            shown.append(crop)
        progress(index + 1, len(images))
    _sheet(shown).save(folder / "contact_sheet.png")
    return digest.hexdigest()


def _sheet(shown: list[Crop]) -> Image.Image:
    return contact_sheet(np.stack(shown))


def _checked(manifest: Manifest, checksum: str | None) -> Manifest:
    if checksum in (None, manifest.sha256):
        return manifest
    return replace(
        manifest, warnings=(*manifest.warnings, "these are not the pixels that the set's checksum stands for")
    )
