"""Forms for runtimes: one file (or folder) a runtime. Backends never train."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from qface_toolkit.backends._base import Backend, Content, Embed, Facts, FloatFile, ImageInput, Runner, SeveralOutputs
from qface_toolkit.backends._pixels import FLOATS, INPUT_KEY
from qface_toolkit.environment import machine_here
from qface_toolkit.errors import ArtifactError
from qface_toolkit.registry import Registry, unknown_name
from qface_toolkit.runtimes.fusion import Fusion
from qface_toolkit.untrusted.formats import check_model_file, suffix_of
from qface_toolkit.verifier import Machine

BACKENDS: Registry[Backend] = Registry("backend", __name__)

TOGETHER: Mapping[str, tuple[str, ...]] = {"onnx-packed": ("onnx-packed-x86", "onnx-packed-arm")}
"""Names that stand for several backends wherever backends are named."""


PROGRAMS = (".onnx", ".ts")
"""How the names of files end in which a runtime finds a program of its own."""


def backend_names() -> tuple[str, ...]:
    """Return every name that can be given where backends are named, sorted."""
    return tuple(sorted((*BACKENDS.names(), *TOGETHER)))


def expand_backends(names: Iterable[str]) -> tuple[str, ...]:
    """Return the backends that these names stand for, each once.

    Raises:
        UnknownName: naming the closest known name.
    """
    found: list[str] = []
    for name in names:
        if name not in backend_names():
            raise unknown_name(BACKENDS.kind, name, backend_names())
        found += TOGETHER.get(name, (name,))
    return tuple(dict.fromkeys(found))


def backend_of(name: str) -> Backend | None:
    """Return the backend whose artifacts have this file name."""
    return next((entry for entry in BACKENDS.entries().values() if entry.artifact == name), None)


def float_files() -> tuple[FloatFile, ...]:
    """Return the float files of a result, the reference first."""
    from qface_toolkit.backends._float_files import FLOAT_FILES

    return FLOAT_FILES


def runner_of(file: Path) -> Runner | None:
    """Return what runs a file: the backend of that name, else what runs anybody's files of that form, if any does.

    Raises:
        ArtifactError: if it is of a form that is not read here.
    """
    known = backend_of(file.name)
    if not file.is_file():
        return known
    suffix = suffix_of(check_model_file(file, kind=ArtifactError), file)
    if known is not None and Path(known.artifact).suffix == suffix and known.reads(file):
        return known
    if suffix == ".onnx":
        return float_files()[0]
    alike = (one for one in BACKENDS.entries().values() if Path(one.artifact).suffix == suffix)
    return next((one for one in alike if one.reads(file)), None)


def foreign(runner: Runner) -> str | None:
    """Return why a file's speed on this machine would say nothing, or None if it would."""
    if runner.machine is None:
        return f"a {runner.runtime.title}; its speed says nothing"
    here = machine_here()
    return None if here == runner.machine else f"made for {runner.machine}; its speed on {here} says nothing"


def inspect_here(runner: Runner, file: Path) -> Fusion:
    """Return what a runtime runs for a file here, and whether that is the kind of processor that it is made for.

    Raises:
        QFaceError: if it is damaged, refused or asks for too much.
    """
    seen = f"on {_ARCHITECTURES[machine_here()]}, {runner.version()}"
    made_for = runner.machine or machine_here()
    elsewhere = f"not checked on {_ARCHITECTURES[made_for]}; this was seen {seen}"
    return replace(runner.inspect(file), placement=f"checked {seen}" if made_for == machine_here() else elsewhere)


_ARCHITECTURES: Mapping[Machine, str] = {"x86": "x86-64", "arm": "aarch64"}


__all__ = [
    "BACKENDS",
    "FLOATS",
    "INPUT_KEY",
    "PROGRAMS",
    "TOGETHER",
    "Backend",
    "Content",
    "Embed",
    "Facts",
    "FloatFile",
    "ImageInput",
    "Runner",
    "SeveralOutputs",
    "backend_names",
    "backend_of",
    "expand_backends",
    "float_files",
    "foreign",
    "inspect_here",
    "runner_of",
]
