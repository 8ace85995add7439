"""The mistakes that a schema finds in somebody's values, in words: one line each, with the path of the key."""

import difflib
from collections.abc import Collection, Sequence

from pydantic import BaseModel, ValidationError

SHOWN_VALUE_CHARACTERS = 60


def worded(error: ValidationError, schema: type[BaseModel], *prefix: str) -> list[str]:
    """Return one line for each mistake that a schema found, with the path of its key."""
    mistakes = []
    for one in error.errors(include_url=False):
        path = ".".join(map(str, (*prefix, *one["loc"]))) or "(recipe)"
        if one["type"] == "extra_forbidden":
            mistakes.append(f"{path}: there is no such key{closest(one['loc'][-1], _keys_at(schema, one['loc'][:-1]))}")
        elif one["type"] == "missing":
            mistakes.append(f"{path}: this key is missing")
        else:
            what = one["msg"].removeprefix("Value error, ").removeprefix("Input ")
            mistakes.append(f"{path}: {what} (it is {shown(one['input'])})")
    return mistakes


def _keys_at(schema: type[BaseModel], path: Sequence[int | str]) -> Collection[str]:
    """Return the keys that the block at this path knows, as far as plain nesting goes."""
    for part in path:
        field = schema.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return ()
        schema = field.annotation
    return schema.model_fields


def closest(name: object, known: Collection[str]) -> str:
    """Return the end of a sentence that names the known name most like this one, or else all of them."""
    close = difflib.get_close_matches(str(name), known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are: {', '.join(sorted(known))}" if known else ""


def shown(value: object) -> str:
    """Return a value as a message can show it."""
    text = repr(value)
    return text if len(text) <= SHOWN_VALUE_CHARACTERS else text[:SHOWN_VALUE_CHARACTERS] + "…"
