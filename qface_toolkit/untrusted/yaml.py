"""Plain values from a YAML file that is not trusted: none can hang, fill the memory or mean two things at once."""

import re
from pathlib import Path
from typing import Any

import yaml

from qface_toolkit.errors import RecipeError
from qface_toolkit.untrusted.reading import read_file

LARGEST_FILE_BYTES = 100_000
DEEPEST_NESTING = 24
_FIX = "correct the file, or start from a copy of one that works"


def read_text(path: Path, noun: str = "file", fix: str = "check the path") -> str:
    """Return the text of a small file; `noun` is what it should be, `fix` what to do without it.

    Raises:
        RecipeError: if it cannot be read, is larger than LARGEST_FILE_BYTES or is not UTF-8.
    """
    try:
        return read_file(path, LARGEST_FILE_BYTES, noun=noun, fix=fix, kind=RecipeError).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError("the file is not UTF-8 text", where=str(path), fix="give a YAML file") from error


def read_yaml(text: str, *, where: str) -> object:
    """Return the plain values that a YAML text stands for.

    Raises:
        RecipeError: if it is not YAML, or uses anchors, tags, duplicate keys or very deep nesting.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"this is not YAML that can be used: {_one_line(error)}", where=where, fix=_FIX) from error
    except ValueError as error:
        # PyYAML lets Python's own error out for a date or a number that only looks like one.
        raise RecipeError(f"a value cannot be read: {error}", where=where, fix=_FIX) from error


def as_written(value: object) -> object:
    """Return a float as it stood in the YAML text: a version 1.20 is not 1.2. Anything else is returned unchanged."""
    return value.text if isinstance(value, _WrittenFloat) else value


class _WrittenFloat(float):
    """A float that knows how it was written."""

    text: str


class _Loader(yaml.SafeLoader):
    """A safe loader without anchors (a kilobyte can expand to gigabytes), tags, duplicate keys and deep nesting."""

    nesting = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML leaves it out
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _refused("anchors and aliases are not allowed: write the value out", event)
        if getattr(event, "tag", None):
            raise _refused("tags are not allowed: write the value plainly", event)
        if self.nesting == DEEPEST_NESTING:
            raise _refused(f"blocks are nested more than {DEEPEST_NESTING} deep", event)
        self.nesting += 1
        node = super().compose_node(parent, index)
        self.nesting -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise _refused(f"the key {key.value!r} stands there twice", key)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        number = _WrittenFloat(super().construct_yaml_float(node))
        number.text = node.value
        return number


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
# PyYAML follows YAML 1.1, where 1e-3 is a text; that is never what is meant.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _refused(what: str, place: yaml.Event | yaml.Node) -> yaml.YAMLError:
    mark: Any = place.start_mark
    return yaml.MarkedYAMLError(problem=what, problem_mark=mark)


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return f"{getattr(error, 'problem', None) or str(error).splitlines()[0]}{place}"
