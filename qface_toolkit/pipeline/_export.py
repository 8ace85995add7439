"""Lower a finished result again, for another runtime, machine or input, and let the folder know the new file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from qface_toolkit.backends import BACKENDS, Backend, expand_backends
from qface_toolkit.canonical.graph import operation
from qface_toolkit.errors import ArtifactError, RecipeError
from qface_toolkit.quantize.deployment import Deployment
from qface_toolkit.quantize.model import QuantizedModel, load_quantized
from qface_toolkit.quantize.sums import settle_sums
from qface_toolkit.recipe import Export, Target
from qface_toolkit.result.golden import with_artifact
from qface_toolkit.result.job import Tell, silent
from qface_toolkit.result.manifest import (
    EXPORTED,
    NAME,
    WORK,
    Manifest,
    add_files,
    alone_in,
    finish_adding,
    is_intact,
    read_manifest,
)
from qface_toolkit.result.names import DESCRIPTION, GOLDEN, WEIGHTS
from qface_toolkit.result.saved import refuse_simulated
from qface_toolkit.runtimes import FAST_ARTIFACT, FLOAT_ARTIFACT
from qface_toolkit.untrusted.json import read_json
from qface_toolkit.untrusted.settings import apply_setting, worded

SETTABLE = ("target.onnxruntime", "target.vnni", "target.prelu", "export.input")


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    target: Target
    export: Export

    @classmethod
    def of(cls, deployment: Deployment) -> dict[str, dict[str, Any]]:
        """Return, as plain values, what a model was compressed for; its forms of PReLU stay what they are."""
        target = {"vnni": deployment.vnni, "onnxruntime": deployment.onnxruntime, "prelu": "auto"}
        return {"target": target, "export": {"input": deployment.image}}

    def applied(self, model: QuantizedModel) -> QuantizedModel:
        """Return the model for these settings."""
        where = Deployment(self.target.vnni, self.target.onnxruntime, self.export.input)
        model = replace(model, deployment=where)
        if self.target.prelu == "auto":
            return model
        prelus = [node.name for node in model.network.graph.nodes if operation(node) == "prelu"]
        return settle_sums(model.with_forms(dict.fromkeys(prelus, self.target.prelu)))

    def as_plain(self) -> dict[str, Any]:
        """Return the settings as `--set` names them."""
        parts = self.model_dump(mode="json")
        return {key: parts[key.split(".")[0]][key.split(".")[1]] for key in SETTABLE}


@dataclass(frozen=True)
class _Result:
    """A finished folder whose files are what its manifest says."""

    root: Path
    manifest: Manifest
    model: QuantizedModel
    facts: dict[str, str]

    @classmethod
    def read(cls, root: Path) -> "_Result":
        refuse_simulated(root)
        model = load_quantized(root / DESCRIPTION, root / WEIGHTS)
        finish_adding(root)
        manifest = read_manifest(root)
        for name in (DESCRIPTION, WEIGHTS, GOLDEN):
            if name not in manifest.files or not is_intact(root / name, manifest.files[name]):
                what = "the file is missing or not what the manifest says"
                raise ArtifactError(what, where=str(root / name), fix="copy the folder again, or compress again")
        facts = read_json(root / DESCRIPTION).get("facts", {})
        if not isinstance(facts, dict):
            raise ArtifactError("the facts are damaged", where=str(root / DESCRIPTION), fix="compress again")
        return cls(root, manifest, model, {str(key): str(value) for key, value in facts.items()})

    def add(self, name: str, backend: str, settings: _Settings) -> Path:
        """Lower the model, and write the file with all that the folder says of it."""
        chosen, model = BACKENDS.get(backend), settings.applied(self.model)
        artifact = chosen.lower(model, self.facts)
        golden = with_artifact(self.root / GOLDEN, model, name, chosen.target)
        known = (self.manifest.model_extra or {}).get(EXPORTED)
        exported = {name: {"backend": backend, "settings": settings.as_plain()}}
        told = {EXPORTED: (known if isinstance(known, dict) else {}) | exported}
        # The file named last is renamed first.
        add_files(self.root, {GOLDEN: golden, name: artifact}, told)
        return self.root / name


def export(
    folder: str | Path,
    backend: str,
    *,
    sets: Sequence[str] = (),
    name: str | None = None,
    force: bool = False,
    tell: Tell = silent,
) -> Path:
    """Lower a finished result again and return the new file, which stands beside the others and in the manifest.

    `sets` are KEY=VALUE strings that change where it will run, as for `qface export --set`. `name` is the file's name,
    instead of the backend's own; `force` replaces a file of that name. golden.npz gets what the new file must give.
    Of a name that stands for several backends all files are written, and the first is returned.

    Raises:
        QFaceError: whatever the user can mend; the folder is then what it was before.
    """
    return export_all(folder, [backend], sets=sets, name=name, force=force, tell=tell)[0]


def export_all(
    folder: str | Path,
    backends: Sequence[str],
    *,
    sets: Sequence[str] = (),
    name: str | None = None,
    force: bool = False,
    tell: Tell = silent,
) -> list[Path]:
    """Do the same for several backends and return all new files: one for each that the names stand for."""
    root, names = Path(folder), expand_backends(backends)
    if name is not None and len(names) > 1:
        what = f"{' and '.join(names)} were asked for, and their files cannot have one name"
        raise ArtifactError(what, where=name, fix="ask for one of them, or leave --name")
    files = {one: _file_name(BACKENDS.get(one), name) for one in names}
    with alone_in(root):
        result = _Result.read(root)
        settings = {one: _read_settings(result.model.deployment, BACKENDS.get(one), sets) for one in names}
        for one in names:
            BACKENDS.get(one).check(one, result.model.scheme, result.model.network)
        for file in files.values():
            if (root / file).exists() and not force:
                fix = "--force to replace it, or --name FILE to keep both"
                raise ArtifactError("the file exists", where=str(root / file), fix=fix)
        written = []
        for one in names:
            tell(f"lower to {files[one]}")
            written.append(_Result.read(root).add(files[one], one, settings[one]))
        return written


def exported_values(artifact: Path) -> dict[str, Any]:
    """Return what a folder says of a file that was lowered again, as plain values."""
    manifest = read_manifest(artifact.parent)
    told = (manifest.model_extra or {})[EXPORTED][artifact.name]
    return {"file": str(artifact), **told, **manifest.files[artifact.name].model_dump()}


def _file_name(chosen: Backend, wanted: str | None) -> str:
    """Return the name of the file to write, which nothing else in a result may have."""
    if wanted is None:
        return chosen.artifact
    ending = Path(chosen.artifact).suffix
    others = {BACKENDS.get(name).artifact for name in BACKENDS.names()} - {chosen.artifact}
    plain = NAME.fullmatch(wanted) and not wanted.startswith(WORK) and wanted.endswith(ending)
    if not plain or wanted in {FLOAT_ARTIFACT, FAST_ARTIFACT, *others}:
        what = "this cannot be the new file's name"
        raise ArtifactError(
            what, where=wanted, fix=f"give a bare name of its own that ends in {ending}; it goes into DIR"
        )
    return wanted


def _read_settings(deployment: Deployment, chosen: Backend, sets: Sequence[str]) -> _Settings:
    """Return what a model was compressed for, changed by KEY=VALUE strings."""
    if sets and not chosen.settings:
        what = f"nothing can be set for {chosen.artifact}"
        raise RecipeError(what, where=sets[0], fix=f"{', '.join(SETTABLE)} change ONNX files alone")
    values, mistakes = _Settings.of(deployment), []
    for text in sets:
        key = text.partition("=")[0].strip()
        known = key in SETTABLE or "=" not in text
        mistakes += apply_setting(values, text) if known else [f"--set {key}: this cannot be changed any more"]
    try:
        settings = _Settings.model_validate(values)
    except ValidationError as error:
        mistakes += worded(error, _Settings)
    if mistakes:
        what = "".join(f"\n  {mistake}" for mistake in mistakes)
        fix = f"these can be set: {', '.join(SETTABLE)}; for the rest, compress again"
        raise RecipeError(f"the settings hold mistakes:{what}", fix=fix)
    return settings
