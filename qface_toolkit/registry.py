"""The one look-up used by the plug-in folders: a folder is a registry, a file is an entry.

Each module of a plug-in folder whose name has no leading underscore defines `ENTRIES`, a mapping from the
names it adds to what they stand for. Other distributions add theirs through an entry point whose object is
such a mapping. Modules are imported on first use, so that importing the package stays cheap.
"""

import difflib
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Mapping
from typing import Generic, TypeVar, cast

from qface_toolkit.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Names and what they stand for, gathered from one plug-in folder and its entry points."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, T] | None = None

    def names(self) -> tuple[str, ...]:
        """Return every known name, sorted."""
        return tuple(sorted(self.entries()))

    def get(self, name: str) -> T:
        """Return what `name` stands for.

        Raises:
            UnknownName: naming the closest known name.
        """
        entries = self.entries()
        if name not in entries:
            raise unknown_name(self.kind, name, tuple(entries))
        return entries[name]

    def entries(self) -> Mapping[str, T]:
        """Return the whole mapping, importing the folder's modules the first time."""
        if self._entries is None:
            gathered: dict[str, T] = {}
            for mapping in (*_folder_mappings(self.package), *_entry_point_mappings(self.package)):
                twice = gathered.keys() & mapping.keys()
                if twice:
                    raise ValueError(f"two {self.kind} entries are called {sorted(twice)}")
                gathered.update(cast("Mapping[str, T]", mapping))
            self._entries = gathered
        return self._entries


def unknown_name(kind: str, name: str, known: tuple[str, ...]) -> UnknownName:
    """Build the error for a name nobody knows, with the closest known one as the next step."""
    close = difflib.get_close_matches(name, known, n=1)
    fix = f"did you mean {close[0]}?" if close else f"use one of: {', '.join(sorted(known))}"
    return UnknownName(f"there is no {kind} called {name!r}", fix=fix)


def _folder_mappings(package: str) -> list[Mapping[str, object]]:
    """Return the entries of a folder's modules; a folder inside that has none serves the others."""
    folder = importlib.import_module(package)
    names = sorted(info.name for info in pkgutil.iter_modules(folder.__path__) if not info.name.startswith("_"))
    modules = [importlib.import_module(f"{package}.{name}") for name in names]
    return [module.ENTRIES for module in modules if hasattr(module, "ENTRIES") or not hasattr(module, "__path__")]


def _entry_point_mappings(package: str) -> list[Mapping[str, object]]:
    return [point.load() for point in importlib.metadata.entry_points(group=package)]
