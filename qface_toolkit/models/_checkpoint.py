"""From a checkpoint on disk to a float network with its facts: recognised, complete, or refused with the reason."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models._match import Match, differing_error, match
from qface_toolkit.models._model import FloatModel, check_runs
from qface_toolkit.models._plausible import check_preprocessing
from qface_toolkit.models._spec import PREPROCESSING, ModelSpec
from qface_toolkit.models._state import State, drop_heads, flatten_state, to_float32, under_one_word
from qface_toolkit.models._stated import stated_beside_weights, with_facts
from qface_toolkit.models.onnx import load_onnx
from qface_toolkit.untrusted.formats import file_of, place_of, suffix_of
from qface_toolkit.untrusted.weights import open_checkpoint, read_weights

DEMO = "demo"
"""The word that stands for the embedded model."""

_MOST_OF_A_HEAD = 4
"""Tensors of the classifiers that are trained on embeddings: centres, a bias, and what AdaFace keeps of norms."""

_DEMO_FILE = Path(__file__).with_name("demo.safetensors")


def load_model(path: str | Path, *, name: str | None = None, overrides: Mapping[str, Any] | None = None) -> FloatModel:
    """Load a checkpoint (.pth, .pt, .ckpt, .safetensors, .onnx, or the word `demo`) as a float32 network in eval mode.

    A folder stands for the STUDENT_FILE in it. No code of the file is run. The architecture is recognised from keys and
    shapes unless `name` gives it; every weight of the network comes from the file. An ONNX file brings its network with
    it, whatever that is, and `name` says only what it must be recognised as.

    `overrides` replaces facts of the spec; see `ModelSpec.override`. They go before what the metadata of a safetensors
    file say (see `student_metadata`), and those before what the architecture was published with.

    Raises:
        CheckpointError: if the file cannot be read, trusted or recognised, or its weights are incomplete.
        UnsupportedModel: if an ONNX file holds an operator that is not known here.
        RecipeError: listing the overrides that are wrong.
        UnknownName: if there is no architecture called `name`.
    """
    file = _demo_file() if str(path) == DEMO else file_of(Path(path))
    with open_checkpoint(file) as (stream, form):
        if suffix_of(form, file) == ".onnx":
            return load_onnx(stream, file, name=name, overrides=overrides)
        loaded, metadata = read_weights(stream, file)
        state = flatten_state(loaded, where=place_of(file, form), size_bytes=os.fstat(stream.fileno()).st_size)
        stream.seek(0)
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    found, state = _complete_match(state, name, metadata)
    state = to_float32(state)
    network, given, stated = _build(found, state), overrides or {}, stated_beside_weights(metadata)
    spec = _spec_of(network, found, given, stated, where=str(file))
    caution = _caution(found, {**stated, **given})
    return FloatModel(network, spec, sha256, (*state.notes, *caution), caution)


def _spec_of(
    network: torch.nn.Module, found: Match, given: Mapping[str, Any], stated: Mapping[str, Any], *, where: str
) -> ModelSpec:
    """Return the facts as they are given, or else stated by the file, or else published, if the network suits them."""
    plan = found.plan
    published = ModelSpec(plan.name, plan.input_size, plan.embedding_size, **found.architecture.facts)
    expected = with_facts(published, given={}, stated=stated, otherwise={}, where=where)
    spec = expected.override(given)
    if spec.input_shape != published.input_shape:
        check_runs(network, spec, where=where)
    check_preprocessing(spec, given, network=network, expected=expected.preprocessing, where=where)
    return spec


def _demo_file() -> Path:
    if not _DEMO_FILE.is_file():
        raise CheckpointError(
            "this installation lacks the embedded model", where=str(_DEMO_FILE), fix="install the package again"
        )
    return _DEMO_FILE


def _complete_match(state: State, name: str | None, texts: Mapping[str, str]) -> tuple[Match, State]:
    """Return the architecture that the state is complete for, looking under a word before its keys if need be."""
    found, left = closest = _without_heads(state, name, texts)
    for narrower in () if not found.difference else _narrower(state):
        other = _without_heads(narrower, name, texts)
        if len(other[0].difference) < len(closest[0].difference):
            closest = other
    found, left = closest
    if found.difference and len(state.tensors) <= _MOST_OF_A_HEAD and not _pictured(state):
        raise _no_backbone(state)
    if found.difference:
        raise differing_error(found, left.shapes(), name=name, where=state.where)
    if name and found.plan.name != name:
        raise CheckpointError(
            f"the state dict is not that of {name}; it looks like {found.plan.name}",
            where=state.where,
            fix=f"use --model {found.plan.name}, or none to have it recognised",
        )
    return found, left


def _pictured(state: State) -> bool:
    """Tell whether a tensor may be a convolution's."""
    return any(tensor.dim() > 2 for tensor in state.tensors.values())


def _no_backbone(state: State) -> CheckpointError:
    shown = ", ".join(f"{key[:80]} {list(shape)}" for key, shape in list(state.shapes().items())[:6])
    return CheckpointError(
        "the state dict holds no convolution, so it is no backbone, but perhaps the classifier that is trained on top "
        f"of one: {shown}",
        where=state.where,
        fix="give the backbone's own file, which training programs save beside this one (backbone.pth, Backbone_*.pth)",
    )


def _without_heads(state: State, name: str | None, texts: Mapping[str, str]) -> tuple[Match, State]:
    try:
        found = match(state.shapes(), name=name, texts=texts)
        left = drop_heads(state, found.difference.unexpected, found.plan.embedding_size)
        return (found, left) if left is state else (match(left.shapes(), name=name, texts=texts), left)
    except CheckpointError as error:
        error.where = error.where or state.where
        raise


def _narrower(state: State, depth: int = 3) -> Iterator[State]:
    for inside in under_one_word(state) if depth else ():
        yield inside
        yield from _narrower(inside, depth - 1)


def _caution(found: Match, known: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what to know of a preprocessing that is taken from the layout, unless the user or the file says it."""
    told = found.architecture.caution
    return (told,) if told and not set(known) & set(PREPROCESSING) else ()


def _build(found: Match, state: State) -> torch.nn.Module:
    """Build the network without memory of its own and give it the state's tensors: no weight can be left random."""
    with torch.device("meta"):
        network = found.plan.build()
    counters = {key: torch.zeros((), dtype=torch.int64) for key in network.state_dict() if key not in state.tensors}
    network.load_state_dict({**counters, **state.tensors}, strict=True, assign=True)
    return network.eval()
