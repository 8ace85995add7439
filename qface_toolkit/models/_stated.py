"""What a file says of its own model in words: the facts in an ONNX file's metadata or beside a TorchScript program."""

import json
from collections.abc import Mapping
from typing import Any

from qface_toolkit.errors import CheckpointError, RecipeError
from qface_toolkit.models._model import override
from qface_toolkit.models._onnx_read import printable
from qface_toolkit.models._spec import ModelSpec

PREPROCESSING = ("mean", "std", "color")
_PROVENANCE = ("license", "origin")
_LONGEST_FACT = 300
_LONGEST_NAME = 60


def stated_facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the preprocessing and provenance that texts under our own keys say, as `override` takes them."""
    facts: dict[str, Any] = {}
    for key in (*PREPROCESSING, *_PROVENANCE):
        text = metadata.get(f"qface.{key}")
        if text is None or len(text) > _LONGEST_FACT:
            continue
        facts[key] = _numbers(text) if key in ("mean", "std") else printable(text, _LONGEST_FACT)
    return facts


def stated_name(metadata: Mapping[str, str]) -> str:
    """Return the model's name that a file says, which may be empty."""
    return printable(metadata.get("qface.model", ""), _LONGEST_NAME)


def with_stated(spec: ModelSpec, stated: Mapping[str, Any]) -> ModelSpec:
    """Return the spec with what a file states.

    Raises:
        CheckpointError: if that makes no sense.
    """
    try:
        return override(spec, stated)
    except RecipeError as error:
        what = f"the file's metadata are wrong: {error.what}"
        raise CheckpointError(what, fix="give the facts with --set") from error


def _numbers(text: str) -> object:
    """Return what a metadata text holds as JSON; a text that is none is refused later, by its name."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return printable(text)
