"""The facts of a model as a file says them in words, and what to say where it does not.

The texts stand in an ONNX file's metadata, beside a TorchScript program, or in the head of a safetensors file.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from qface_toolkit.errors import CheckpointError, RecipeError
from qface_toolkit.models._spec import PREPROCESSING, PROVENANCE, ModelSpec
from qface_toolkit.untrusted.reading import printable

_VALUES = {"mean": "model.mean=MEAN", "std": "model.std=STD", "color": "model.color=rgb|bgr|gray"}
_USUAL = (
    "mean 127.5, std 127.5 or 128, rgb (most that were trained for faces; AdaFace likewise, bgr); "
    "mean [123.675, 116.28, 103.53], std [58.395, 57.12, 57.375], rgb (the constants of ImageNet); "
    "mean 0, std 255 (pixels brought to 0..1 and nothing else); mean 0, std 1 (pixels as they are)"
)
LONGEST_FACT = 300
"""Signs of a text; what is longer is no fact."""
_LONGEST_NAME = 60


def stated_facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the preprocessing and provenance that texts under our own keys say, as `ModelSpec.override` takes them."""
    facts: dict[str, Any] = {}
    for key in (*PREPROCESSING, "crop", *PROVENANCE):
        text = metadata.get(f"qface.{key}")
        if text is None or len(text) > LONGEST_FACT:
            continue
        facts[key] = _numbers(text) if key in ("mean", "std") else printable(text, LONGEST_FACT)
    return facts


def stated_beside_weights(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return what the head of a safetensors file says: see `stated_facts`, and the input's size.

    License and origin may stand there under those plain words, as others write them.
    """
    facts: dict[str, Any] = {key: printable(metadata[key], LONGEST_FACT) for key in PROVENANCE if key in metadata}
    size = metadata.get("qface.input_size")
    if size is not None and len(size) <= LONGEST_FACT:
        facts["input_size"] = _numbers(size)
    return facts | stated_facts(metadata)


def texts_beside_weights(spec: ModelSpec) -> dict[str, str]:
    """Return the facts as the texts that `stated_beside_weights` reads."""
    texts = {f"qface.{key}": json.dumps(getattr(spec, key)) for key in ("input_size", "mean", "std")}
    texts |= {"qface.color": spec.color, "qface.crop": spec.crop}
    return texts | {key: printable(getattr(spec, key), LONGEST_FACT) for key in PROVENANCE}


def stated_name(metadata: Mapping[str, str]) -> str:
    """Return the model's name that a file says, which may be empty."""
    return printable(metadata.get("qface.model", ""), _LONGEST_NAME)


def missing_facts(*known: Mapping[str, Any]) -> list[str]:
    """Return which of mean, std and color, the facts of how images are prepared, is in none of these."""
    return [key for key in PREPROCESSING if not any(key in facts for facts in known)]


def how_to_give(missing: Sequence[str]) -> str:
    """Return how to give facts of the preprocessing, what they usually are, and what becomes of wrong ones."""
    settings = " ".join(f"--set {_VALUES[key]}" for key in missing)
    return (
        f"give those of the training, which the model's authors state: {settings}. Do not guess; usual ones "
        f"are: {_USUAL}. Wrong ones give a network that knows people worse or not at all: see how well it does with "
        "`qface evaluate --faces`, which raises an alarm where it hardly does"
    )


def with_facts(
    spec: ModelSpec,
    *,
    given: Mapping[str, Any],
    stated: Mapping[str, Any],
    otherwise: Mapping[str, Any],
    where: str | None = None,
) -> ModelSpec:
    """Return the spec with what the caller gives, before what the file states, before what is known otherwise.

    `where` names the file for messages.

    Raises:
        CheckpointError: if what the file states makes no sense.
        RecipeError: listing what is wrong of what is given.
    """
    try:
        spec = spec.override({**otherwise, **stated})
    except RecipeError as error:
        what = f"the file's metadata are wrong: {error.what}"
        raise CheckpointError(what, where=where, fix="give the facts with --set") from error
    return spec.override(given)


def _numbers(text: str) -> object:
    """Return what a metadata text holds as JSON; a text that is none is refused later, by its name."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return printable(text)
