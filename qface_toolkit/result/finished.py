"""A finished folder as a value: its files, what they must be, and the model that can be lowered again.

The folder may come from anybody: hashes in its manifest find damage, not malice, so that its files are opened as a
stranger's are.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from qface_toolkit.backends import BACKENDS, Backend, backend_of
from qface_toolkit.errors import ArtifactError
from qface_toolkit.quantize.model import QuantizedModel, load_quantized
from qface_toolkit.quantize.target import ONNX, Target
from qface_toolkit.report import Report, read_report
from qface_toolkit.result.golden import read_golden
from qface_toolkit.result.manifest import EXPORTED, Manifest, damage, damaged_files, read_manifest
from qface_toolkit.result.names import DESCRIPTION, GOLDEN, REPORT, WEIGHTS
from qface_toolkit.untrusted.json import read_json


@dataclass(frozen=True)
class Result(os.PathLike[str]):
    """What `compress` made, wherever it lies now; every verb takes it as it takes the folder's path.

    `manifest` holds the files' hashes and sizes, and as further keys the recipe, the seed and the versions.
    """

    folder: Path
    manifest: Manifest

    def __fspath__(self) -> str:
        """Return the folder's path."""
        return str(self.folder)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its files, sorted."""
        return tuple(sorted(self.manifest.files))

    @property
    def damaged(self) -> dict[str, str]:
        """The files that are not what the manifest says, each with what is wrong with it; every byte is read."""
        return damaged_files(self.folder, self.manifest)

    def told(self, key: str) -> dict[str, Any]:
        """Return a part of what the manifest says beside the hashes, such as "recipe"; empty if it is not there."""
        found = (self.manifest.model_extra or {}).get(key)
        return found if isinstance(found, dict) else {}

    def backend(self, name: str) -> Backend | None:
        """Return the backend that wrote a file, by what the manifest says of files written later, or by its name."""
        exported = self.told(EXPORTED).get(name)
        wanted = exported.get("backend") if isinstance(exported, dict) else None
        known = BACKENDS.entries().get(wanted) if isinstance(wanted, str) else None
        return known or backend_of(name)

    def target(self) -> Target:
        """Return what the first backend of the recipe runs, as far as the manifest names one that is known."""
        names = self.told("recipe").get("backends")
        known = [name for name in names if name in BACKENDS.names()] if isinstance(names, list) else []
        return BACKENDS.get(known[0]).target if known else ONNX

    def model(self) -> QuantizedModel:
        """Return the compressed model, to be lowered or looked into again.

        Raises:
            ArtifactError: if its files are damaged, or it is a simulation alone.
        """
        simulations = [one.artifact for one in BACKENDS.entries().values() if one.runtime.simulates]
        if any((self.folder / name).is_file() for name in simulations) and not (self.folder / DESCRIPTION).exists():
            what = "this result is a simulation alone: it holds no network that could be lowered or looked into"
            raise ArtifactError(what, where=str(self.folder), fix="compress again with another recipe, such as int8")
        self.check(DESCRIPTION, WEIGHTS)
        return load_quantized(self.folder / DESCRIPTION, self.folder / WEIGHTS)

    def facts(self) -> dict[str, str]:
        """Return what goes into the metadata of every artifact.

        Raises:
            ArtifactError: if the file that holds them is damaged.
        """
        facts = read_json(self.folder / DESCRIPTION).get("facts", {})
        if not isinstance(facts, dict):
            raise ArtifactError("the facts are damaged", where=str(self.folder / DESCRIPTION), fix="compress again")
        return {str(key): str(value) for key, value in facts.items()}

    def golden(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return all golden vectors (see verifier.read_arrays): "inputs", "float", and what each artifact must give.

        Raises:
            ArtifactError: if there are none, or they are damaged.
        """
        named = GOLDEN in self.manifest.files
        wrong = damage(self.folder, GOLDEN, self.manifest) if named else "the manifest does not name it"
        if wrong:
            what = f"there is nothing to compare with: {wrong}"
            raise ArtifactError(what, where=str(self.folder / GOLDEN), fix="copy the folder again, or make it again")
        return read_golden(self.folder / GOLDEN)

    def report(self) -> Report:
        """Return what was measured when the folder was made.

        Raises:
            ArtifactError: if there is no report, or it is damaged.
        """
        return read_report(self.folder / REPORT)

    def check(self, *names: str) -> None:
        """Check that these files are what the manifest says.

        Raises:
            ArtifactError: naming the first that is not.
        """
        for name in names:
            if name not in self.manifest.files or damage(self.folder, name, self.manifest):
                what = "the file is missing or not what the manifest says"
                fix = "copy the folder again, or compress again"
                raise ArtifactError(what, where=str(self.folder / name), fix=fix)


def open_result(folder: str | os.PathLike[str]) -> Result:
    """Open the folder that a compression made; nothing in it is run or believed.

    Raises:
        ArtifactError: if it is no finished result.
    """
    return Result(Path(folder), read_manifest(Path(folder)))
