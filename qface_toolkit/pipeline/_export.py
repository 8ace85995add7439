"""Lower a finished result again, for another runtime, machine or input, and let the folder know the new file."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qface_toolkit.backends import BACKENDS, Backend, expand_backends
from qface_toolkit.errors import ArtifactError
from qface_toolkit.pipeline._settings import Settings, read_settings
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.result.finished import Result, open_result
from qface_toolkit.result.golden import verifier_source, with_artifact
from qface_toolkit.result.job import Tell, silent
from qface_toolkit.result.lowered import Lowered
from qface_toolkit.result.manifest import EXPORTED, NAME, WORK, add_files, alone_in, finish_adding
from qface_toolkit.result.names import GOLDEN, VERIFIER
from qface_toolkit.runtimes import FAST_ARTIFACT, FLOAT_ARTIFACT


def export(
    folder: str | os.PathLike[str],
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
    folder: str | os.PathLike[str],
    backends: Sequence[str],
    *,
    sets: Sequence[str] = (),
    name: str | None = None,
    force: bool = False,
    tell: Tell = silent,
) -> list[Path]:
    """Lower a finished result for several backends and return all new files: one for each that the names stand for."""
    root, names = Path(folder), expand_backends(backends)
    if name is not None and len(names) > 1:
        what = f"{' and '.join(names)} were asked for, and their files cannot have one name"
        raise ArtifactError(what, where=name, fix="ask for one of them, or leave --name")
    files = {one: _file_name(BACKENDS.get(one), name) for one in names}
    open_result(root)  # what is no result is refused before anything of it is locked
    with alone_in(root):
        finish_adding(root)
        result = open_result(root)
        result.check(GOLDEN)
        model = result.model()
        settings = {one: read_settings(model.deployment, BACKENDS.get(one), sets) for one in names}
        for one in names:
            BACKENDS.get(one).check(one, model.scheme, model.network)
        for file in files.values():
            if (root / file).exists() and not force:
                fix = "--force to replace it, or --name FILE to keep both"
                raise ArtifactError("the file exists", where=str(root / file), fix=fix)
        for one in names:
            tell(f"lower to {files[one]}")
            _add(open_result(root), settings[one].applied(model), files[one], one, settings[one])
    return [root / file for file in files.values()]


def _add(result: Result, model: QuantizedModel, name: str, backend: str, settings: Settings) -> None:
    """Lower the model, and write the file with all that the folder says of it."""
    chosen = BACKENDS.get(backend)
    made = Lowered(model, result.facts())
    golden = with_artifact(result.folder / GOLDEN, made, name, chosen)
    exported = {name: {"backend": backend, "settings": settings.as_plain()}}
    # The file named last is renamed first.
    add_files(
        result.folder,
        {GOLDEN: golden, VERIFIER: verifier_source(), name: chosen.lower(made.model, made.facts)},
        {EXPORTED: result.told(EXPORTED) | exported},
    )


def exported_values(artifact: Path) -> dict[str, Any]:
    """Return what a folder says of a file that was lowered again, as plain values."""
    result = open_result(artifact.parent)
    written = result.manifest.files[artifact.name].model_dump()
    return {"file": str(artifact), **result.told(EXPORTED)[artifact.name], **written}


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
