"""Settings of a user: a `--set KEY=VALUE` put in its place, and the mistakes that a schema finds, in words."""

import difflib
from collections.abc import Collection, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from qface_toolkit.errors import RecipeError
from qface_toolkit.untrusted.yaml import read_yaml

_SHOWN_CHARACTERS = 60


def apply_setting(values: dict[str, Any], text: str) -> list[str]:
    """Put the value of one KEY=VALUE in its place; return what is wrong with it, if anything, as one line.

    A block that is not there yet is made, so that the recipe's own check can name the closest known key.
    """
    key, equals, written = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        return [f"--set {text[:60]!r}: write it as KEY=VALUE, with an equals sign"]
    try:
        value = read_yaml(written, where=key)
        if parts[0] == "steps" and len(parts) > 2:
            method, options = _step(values, parts[1])
            # The options of a step are addressed with or without the method's name in between.
            below = parts[3:] if parts[2] == method and len(parts) > 3 else parts[2:]
            _put(options, below, value)
        else:
            _put(values, parts, value)
    except RecipeError as error:
        return [f"--set {key}: {error.what}"]
    return []


def _step(values: dict[str, Any], index: str) -> tuple[str, Any]:
    """Return the method and the options of a step, which may be written as a bare name or without options."""
    steps = values.get("steps")
    count = len(steps) if isinstance(steps, list) else 0
    if not isinstance(steps, list) or not index.isdecimal() or int(index) >= count:
        raise RecipeError(f"there is no step {index}; the recipe has {count}, counted from 0")
    if isinstance(steps[int(index)], str):
        steps[int(index)] = {steps[int(index)]: {}}
    item = steps[int(index)]
    if not isinstance(item, dict) or len(item) != 1:
        raise RecipeError(f"step {index} is not one method name with its options")
    ((method, options),) = item.items()
    if options is None:
        options = item[method] = {}
    return method, options


def _put(holder: object, parts: Sequence[str], value: object) -> None:
    first, rest = parts[0], parts[1:]
    if isinstance(holder, list):
        if not first.isdecimal() or int(first) >= len(holder):
            raise RecipeError(f"there is no item {first}; the list has {len(holder)}, counted from 0")
        if rest:
            _put(holder[int(first)], rest, value)
        else:
            holder[int(first)] = value
    elif isinstance(holder, dict):
        if rest:
            holder[first] = {} if holder.get(first) is None else holder[first]
            _put(holder[first], rest, value)
        else:
            holder[first] = value
    else:
        raise RecipeError(f"{first} would have to stand inside {str(holder)[:60]!r}, which is a value and not a block")


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
            told = f" (it is {shown(one['input'])})" if one["loc"] else ""
            mistakes.append(f"{path}: {what}{told}")
    return mistakes


def mistakes_error(mistakes: Sequence[str], where: str, fix: str = "correct each of the lines above") -> RecipeError:
    """Return the error that lists the mistakes of a recipe."""
    listed = "".join(f"\n  {mistake}" for mistake in mistakes)
    count = "one mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    return RecipeError(f"the recipe holds {count}:{listed}", where=where, fix=fix)


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
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
