"""Forms for runtimes: one file (or folder) a runtime. Backends never train."""

from qface_toolkit.backends._base import Backend, Embed, Facts
from qface_toolkit.registry import Registry

BACKENDS: Registry[Backend] = Registry("backend", __name__)

__all__ = ["BACKENDS", "Backend", "Embed", "Facts"]
