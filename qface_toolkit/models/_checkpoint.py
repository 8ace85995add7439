"""From a checkpoint on disk to a float network with its facts: recognised, complete, or refused with the reason."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models._match import Match, differing_error, match
from qface_toolkit.models._model import FloatModel, check_runs
from qface_toolkit.models._spec import PROVENANCE, ModelSpec
from qface_toolkit.models._state import State, drop_heads, flatten_state, to_float32
from qface_toolkit.models.onnx import is_onnx, load_onnx
from qface_toolkit.untrusted.weights import open_checkpoint, read_weights

DEMO = "demo"
"""The word that stands for the embedded model."""

_DEMO_FILE = Path(__file__).with_name("demo.safetensors")


def load_model(path: str | Path, *, name: str | None = None, overrides: Mapping[str, Any] | None = None) -> FloatModel:
    """Load a checkpoint (.pth, .pt, .ckpt, .safetensors, .onnx, or the word `demo`) as a float32 network in eval mode.

    No code of the file is run. The architecture is recognised from keys and shapes unless `name` gives it; every
    weight of the network comes from the file. An ONNX file brings its network with it, whatever that is, and `name`
    says only what it must be recognised as. `overrides` replaces facts of the spec; see `ModelSpec.override`.

    Raises:
        CheckpointError: if the file cannot be read, trusted or recognised, or its weights are incomplete.
        UnsupportedModel: if an ONNX file holds an operator that is not known here.
        RecipeError: listing the overrides that are wrong.
        UnknownName: if there is no architecture called `name`.
    """
    file = _demo_file() if str(path) == DEMO else Path(path)
    with open_checkpoint(file) as stream:
        if is_onnx(stream, file):
            return load_onnx(stream, file, name=name, overrides=overrides)
        loaded, metadata = read_weights(stream, file)
        state = flatten_state(loaded, where=str(file), size_bytes=os.fstat(stream.fileno()).st_size)
        stream.seek(0)
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    found, state = _complete_match(state, name)
    state = to_float32(state)
    facts = {key: metadata[key] for key in PROVENANCE if key in metadata}
    spec = _published_spec(found).override({**facts, **(overrides or {})})
    network = _build(found, state)
    if spec.input_shape != (3, *found.plan.input_size):
        check_runs(network, spec, where=str(file))
    return FloatModel(network, spec, sha256, state.notes)


def _demo_file() -> Path:
    if not _DEMO_FILE.is_file():
        raise CheckpointError(
            "this installation lacks the embedded model", where=str(_DEMO_FILE), fix="install the package again"
        )
    return _DEMO_FILE


def _complete_match(state: State, name: str | None) -> tuple[Match, State]:
    found = match(state.shapes(), name=name, where=state.where)
    state = drop_heads(state, found.difference.unexpected, found.plan.embedding_size)
    found = match(state.shapes(), name=name, where=state.where)
    if found.difference:
        raise differing_error(found, name=name, where=state.where)
    return found, state


def _published_spec(found: Match) -> ModelSpec:
    plan = found.plan
    return ModelSpec(plan.name, plan.input_size, plan.embedding_size, **found.architecture.facts)


def _build(found: Match, state: State) -> torch.nn.Module:
    """Build the network without memory of its own and give it the state's tensors: no weight can be left random."""
    with torch.device("meta"):
        network = found.plan.build()
    counters = {key: torch.zeros((), dtype=torch.int64) for key in network.state_dict() if key not in state.tensors}
    network.load_state_dict({**counters, **state.tensors}, strict=True, assign=True)
    return network.eval()
