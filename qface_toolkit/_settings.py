"""What `--set KEY=VALUE` does: put one value into a recipe's plain values before they are checked."""

from collections.abc import Sequence
from typing import Any

from qface_toolkit._yaml import read_yaml
from qface_toolkit.errors import RecipeError


def apply_setting(values: dict[str, Any], text: str) -> list[str]:
    """Put the value of one KEY=VALUE in its place; return what is wrong with it, if anything, as one line.

    A block that is not there yet is made, so that the recipe's own check can name the closest known key.
    """
    key, equals, written = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        return [f"--set {text[:60]!r}: write it as KEY=VALUE, such as calibration.count=64"]
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
