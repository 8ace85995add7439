"""Open whatever can be evaluated: float checkpoints, ONNX files of anybody's, our TorchScript archives, and results."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from qface_toolkit.backends import BACKENDS, Embed
from qface_toolkit.backends._onnxruntime import ERRORS
from qface_toolkit.backends._open import backend_of, open_content
from qface_toolkit.backends._pixels import IMAGE
from qface_toolkit.backends._torch_archive import read_archive
from qface_toolkit.backends.simulation import ARTIFACT as SIMULATION
from qface_toolkit.backends.simulation import RUNTIME as SIMULATION_BACKEND
from qface_toolkit.backends.simulation import spec_of
from qface_toolkit.backends.torch_int8 import EXTRA_FILE
from qface_toolkit.errors import ArtifactError, RecipeError
from qface_toolkit.evaluation import Embedder, Rows
from qface_toolkit.models import (
    CROP_SIZE,
    SHORTEST_EMBEDDING,
    FloatModel,
    ModelSpec,
    how_to_give,
    load_model,
    missing_facts,
    stated_facts,
    stated_name,
    with_facts,
)
from qface_toolkit.quantize.simulated import LARGEST_BYTES, is_simulation
from qface_toolkit.runtimes import FLOAT_ARTIFACT
from qface_toolkit.untrusted.limits import limited_memory, limited_time
from qface_toolkit.untrusted.onnx import read_onnx
from qface_toolkit.untrusted.reading import read_file
from qface_toolkit.untrusted.settings import apply_setting

_CUT = "cut the graph at the embedding, or give another model"


@dataclass(frozen=True)
class Wanted:
    """How to open a model: facts that go before its own, the architecture's name, and another model's facts.

    `like` is the float model that this one was made from; a file that does not say how images are prepared is given
    them as that one is.
    """

    facts: Mapping[str, Any]
    name: str | None = None
    like: ModelSpec | None = None
    threads: int = 1


def read_facts(sets: Sequence[str]) -> dict[str, Any]:
    """Return the facts that KEY=VALUE strings give; every key is one of the model's.

    Raises:
        RecipeError: listing every mistake.
    """
    values: dict[str, Any] = {}
    mistakes = [mistake for text in sets for mistake in apply_setting(values, text)]
    mistakes += [f"--set {key}: only the model's facts can be set here" for key in values if key != "model"]
    if mistakes:
        what = "\n".join(("the settings hold mistakes:", *mistakes))
        raise RecipeError(what, fix="write them as --set model.mean=NUMBER")
    found = values.get("model", {})
    return dict(found) if isinstance(found, dict) else {}


def result_files(model: str | Path) -> tuple[Path, Path] | None:
    """Return the file of a result that this machine would deploy, and its float reference; None for anything else.

    Raises:
        ArtifactError: if a folder is no result, or holds nothing to run.
    """
    folder = Path(model)
    if not folder.is_dir():
        return None
    arm = platform.machine() in ("aarch64", "arm64")
    names = [entry.artifact for entry in BACKENDS.entries().values()]
    names.sort(key=lambda name: (name == SIMULATION, (".arm." in name or ".qnnpack." in name) != arm))
    there = [folder / name for name in names if (folder / name).is_file()]
    if not there or not (folder / FLOAT_ARTIFACT).is_file():
        what = "there is no compressed model in this folder"
        raise ArtifactError(what, where=str(folder), fix="give a folder that `qface compress` wrote, or a model's file")
    return there[0], folder / FLOAT_ARTIFACT


def open_embedder(model: str | Path | FloatModel, wanted: Wanted) -> Embedder:
    """Open a checkpoint, an ONNX file, an archive of ours or a float model for embedding; none of its code is run.

    Raises:
        QFaceError: if it cannot be read, trusted, recognised or run, or does not say how images are prepared.
    """
    if isinstance(model, FloatModel):
        return _of_network(replace(model, spec=model.spec.override(wanted.facts)), model.spec.name)
    path = Path(model)
    if path.suffix == ".ts":
        return _of_archive(path, wanted)
    if path.suffix == ".onnx":
        return _of_onnx(path, wanted)
    if path.suffix == ".safetensors" and is_simulation(path):
        return _of_simulation(path, wanted)
    return _of_network(load_model(model, name=wanted.name, overrides=wanted.facts), path.name)


def _of_simulation(path: Path, wanted: Wanted) -> Embedder:
    data = read_file(path, LARGEST_BYTES)
    run = BACKENDS.get(SIMULATION_BACKEND).open(path, wanted.threads, data)
    spec, sha256 = spec_of(path, data).override(wanted.facts), hashlib.sha256(data).hexdigest()
    return Embedder(run, spec, path.name, sha256, f"torch {torch.__version__} (simulation)")


def _of_network(model: FloatModel, name: str) -> Embedder:
    network = model.network.eval()

    def run(inputs: Rows) -> Rows:
        with torch.inference_mode():
            embeddings: Rows = network(torch.from_numpy(inputs)).numpy()
            return embeddings

    return Embedder(run, model.spec, name, model.source_sha256, f"torch {torch.__version__}")


def _of_archive(path: Path, wanted: Wanted) -> Embedder:
    archive = read_archive(path, EXTRA_FILE)
    told = archive.facts
    run = BACKENDS.get(f"torch-{told['engine']}").open(path, wanted.threads, archive.data)
    height, width = _whole_numbers(told.get("qface.input_size", ""), path)
    size = _probed(run, (height, width), path)
    spec = _stated_spec(told, ModelSpec(stated_name(told) or path.stem, (height, width), size), wanted, path)
    sha256 = hashlib.sha256(archive.data).hexdigest()
    return Embedder(run, spec, path.name, sha256, f"torch {torch.__version__} ({told['engine']})")


def _whole_numbers(text: str, path: Path) -> tuple[int, int]:
    parts = [part.strip() for part in text.strip("[]").split(",")]
    numbers = [int(part) for part in parts if part.isdecimal() and len(part) <= len(str(CROP_SIZE))]
    if len(numbers) != 2 or not all(0 < number <= CROP_SIZE for number in numbers):
        raise ArtifactError("the archive does not say how large its input is", where=str(path), fix="make it again")
    return numbers[0], numbers[1]


def _of_onnx(path: Path, wanted: Wanted) -> Embedder:
    content = read_onnx(path)
    file = content.model
    size, batch = _input_of(file, path)
    backend = backend_of(path.name)
    with limited_memory(path), limited_time() as limits:
        probe = open_content(path, content.data, 1, backend, limits)
        embedding = _probed(_in_batches(probe, batch), size, path)
    told = {str(entry.key): str(entry.value) for entry in file.metadata_props}
    spec = ModelSpec(stated_name(told) or path.stem, size, embedding)
    if _is_foreign_float(file, told):
        spec = load_model(path, name=wanted.name, overrides=_all_facts(wanted)).spec
    else:
        spec = _stated_spec(told, spec, wanted, path)
    run = _in_batches(open_content(path, content.data, wanted.threads, backend), batch)
    runtime = f"onnxruntime {onnxruntime.__version__}"
    if backend is not None and backend.runtime != "onnxruntime":
        runtime = backend.runtime
    return Embedder(run, spec, path.name, content.sha256, runtime)


def _is_foreign_float(file: onnx.ModelProto, told: Mapping[str, str]) -> bool:
    """Tell whether the architecture has to be recognised in order to know how images are prepared."""
    integer = any("Quantize" in node.op_type or "Integer" in node.op_type for node in file.graph.node)
    return not integer and bool(missing_facts(stated_facts(told)))


def _all_facts(wanted: Wanted) -> dict[str, Any]:
    """Return the facts that are given, and those of the model that this one is compared with."""
    return _preprocessing(wanted.like) | dict(wanted.facts)


def _preprocessing(spec: ModelSpec | None) -> dict[str, Any]:
    return {} if spec is None else spec.preprocessing


def _stated_spec(told: Mapping[str, str], spec: ModelSpec, wanted: Wanted, path: Path) -> ModelSpec:
    """Return the spec by what the caller gives, before what the file says, before what its float model has."""
    stated = stated_facts(told)
    otherwise = _preprocessing(wanted.like)
    missing = missing_facts(wanted.facts, stated, otherwise)
    if missing:
        what = f"the file does not say how images are prepared; missing: {', '.join(missing)}"
        fix = f"{how_to_give(missing)}; or give its float model by --reference"
        raise ArtifactError(what, where=str(path), fix=fix)
    return with_facts(spec, given=wanted.facts, stated=stated, otherwise=otherwise)


def _input_of(file: onnx.ModelProto, path: Path) -> tuple[tuple[int, int], int | None]:
    """Return (height, width) of the only input, and the batch size that the file is made for, if it is for one."""
    weights = {tensor.name for tensor in file.graph.initializer}
    inputs = [value for value in file.graph.input if value.name not in weights]
    kind = inputs[0].type.tensor_type.elem_type if len(inputs) == 1 else onnx.TensorProto.FLOAT
    if kind not in (onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8):
        what = f"the file takes {onnx.TensorProto.DataType.Name(kind)} where float32 is fed"
        raise ArtifactError(what, where=str(path), fix="export it with float32 inputs")
    shape = [
        dimension.dim_value if dimension.HasField("dim_value") else None
        for value in inputs[:1]
        for dimension in value.type.tensor_type.shape.dim
    ]
    channels_last = len(inputs) == 1 and inputs[0].name == IMAGE and shape[3:] == [3]
    height, width = (shape[1:3] if channels_last else shape[2:4]) if len(shape) == 4 else (None, None)
    usable = height and width and (channels_last or shape[1] in (3, None)) and max(height, width) <= CROP_SIZE
    if len(inputs) != 1 or not usable or height is None or width is None:
        what = f"the file's inputs are not one image of fixed size: {[value.name for value in inputs][:4]}, {shape}"
        fix = f"give a model that takes [N, 3, height, width] of at most {CROP_SIZE}x{CROP_SIZE} pixels"
        raise ArtifactError(what, where=str(path), fix=fix)
    return (height, width), shape[0] or None


def _in_batches(run: Embed, batch: int | None) -> Embed:
    """Return what feeds a file as many images at a time as it is made for; the last ones stand in for missing ones."""
    if batch is None:
        return run

    def fed(inputs: Rows) -> Rows:
        found = []
        for start in range(0, len(inputs), batch):
            some = inputs[start : start + batch]
            filled = np.concatenate([some, np.repeat(some[-1:], batch - len(some), axis=0)])
            found.append(run(filled)[: len(some)])
        return np.concatenate(found)

    return fed


def _probed(run: Embed, size: tuple[int, int], path: Path) -> int:
    """Return the length of the embedding, for which one image of zeros is run."""
    try:
        embedding = np.asarray(run(np.zeros((1, 3, *size), np.float32)))
    except ERRORS as error:
        what = f"the runtime cannot run the file: {str(error).splitlines()[0]}"
        raise ArtifactError(what, where=str(path), fix=_CUT) from error
    if embedding.ndim != 2 or len(embedding) != 1 or embedding.shape[1] < SHORTEST_EMBEDDING:
        wanted = f"one embedding [1, D] of {SHORTEST_EMBEDDING} numbers or more"
        what = f"the model returns {list(embedding.shape)} for one image, not {wanted}"
        raise ArtifactError(what, where=str(path), fix=_CUT)
    return int(embedding.shape[1])
