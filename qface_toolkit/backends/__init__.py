"""Forms for runtimes: one file (or folder) a runtime. Backends never train."""

from collections.abc import Iterable, Mapping

from qface_toolkit.backends._base import Backend, Embed, Facts
from qface_toolkit.registry import Registry, unknown_name

BACKENDS: Registry[Backend] = Registry("backend", __name__)

TOGETHER: Mapping[str, tuple[str, ...]] = {"onnx-packed": ("onnx-packed-x86", "onnx-packed-arm")}
"""Names that stand for several backends wherever backends are named."""


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


__all__ = ["BACKENDS", "TOGETHER", "Backend", "Embed", "Facts", "backend_names", "expand_backends"]
