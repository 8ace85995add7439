"""Open whatever can be evaluated: float checkpoints, ONNX files of anybody's, our TorchScript archives, and results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qface_toolkit.backends import BACKENDS, Content, Embed, ImageInput, Runner, foreign, runner_of
from qface_toolkit.errors import ArtifactError, QFaceError, RecipeError, UnsupportedModel
from qface_toolkit.evaluation import Embedder, Rows
from qface_toolkit.models import (
    SHORTEST_EMBEDDING,
    FloatModel,
    ModelSpec,
    check_preprocessing,
    how_to_give,
    load_model,
    missing_facts,
    stated_facts,
    stated_name,
    with_facts,
)
from qface_toolkit.models.onnx import GIVEN_TO_THE_READER
from qface_toolkit.runtimes import FLOAT_ARTIFACT
from qface_toolkit.untrusted.formats import SAVED_MODEL, file_of, folder_error, such_as
from qface_toolkit.untrusted.settings import apply_setting


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

    A folder that training wrote is none: it stands for its student.

    Raises:
        ArtifactError: if a folder is neither, or holds nothing to run.
    """
    folder = Path(model)
    if not folder.is_dir():
        return None
    entries = sorted(BACKENDS.entries().values(), key=lambda one: (one.runtime.simulates, foreign(one) is not None))
    there = [folder / one.artifact for one in entries if (folder / one.artifact).is_file()]
    if (folder / SAVED_MODEL).is_file():
        raise folder_error(folder, ArtifactError)
    if not there or not (folder / FLOAT_ARTIFACT).is_file():
        if file_of(folder) != folder:
            return None
        what = "there is no compressed model in this folder"
        fix = f"give a folder that `qface compress` wrote, or a model's file{such_as(folder)}"
        raise ArtifactError(what, where=str(folder), fix=fix)
    return there[0], folder / FLOAT_ARTIFACT


def open_embedder(model: str | Path | FloatModel, wanted: Wanted) -> Embedder:
    """Open a checkpoint, an ONNX file, an archive of ours or a float model for embedding; none of its code is run.

    A folder that training wrote stands for its student.

    Raises:
        QFaceError: if it cannot be read, trusted, recognised or run, or does not say how images are prepared.
    """
    if isinstance(model, FloatModel):
        return _of_network(model.with_facts(wanted.facts), model.spec.name)
    path = file_of(Path(model))
    runner = runner_of(path)
    if runner is None:
        return _of_network(load_model(model, name=wanted.name, overrides=wanted.facts), path.name)
    try:
        return _of_file(path, runner, wanted)
    except ArtifactError:
        # What the runtime cannot run, such as convolutions of doubles, may still be a network that compress reads.
        network = _as_network(model, runner, wanted)
        if network is None:
            raise
        return _of_network(network, path.name)


def _as_network(model: str | Path, runner: Runner, wanted: Wanted) -> FloatModel | None:
    """Return a file as the float network that compress makes of it, if it does."""
    if runner.runtime.simulates or Path(model).suffix == ".ts":
        return None
    facts = (wanted.like.preprocessing if wanted.like else {}) | dict(wanted.facts)
    try:
        return load_model(model, name=wanted.name, overrides=facts)
    except QFaceError:
        return None


def _of_network(model: FloatModel, name: str) -> Embedder:
    network = model.network.eval()

    def run(inputs: Rows) -> Rows:
        with torch.inference_mode():
            embeddings: Rows = network(torch.from_numpy(inputs)).numpy()
            return embeddings

    return Embedder(run, model.spec, name, model.source_sha256, f"torch {torch.__version__}")


def _of_file(path: Path, runner: Runner, wanted: Wanted) -> Embedder:
    content = runner.fitted(path, runner.read(path), wanted.facts)
    takes = runner.image_input(path, content)
    spec, takes = _spec_of(path, runner, content, takes, wanted)
    run = _in_batches(runner.open(path, wanted.threads, content), takes.batch)
    ours = content.spec is not None or "qface.input_size" in content.facts
    notes = () if ours or wanted.like or "crop" in wanted.facts else spec.doubts
    return Embedder(run, spec, path.name, content.sha256, runner.version(content), notes=notes)


def _spec_of(
    path: Path, runner: Runner, content: Content, takes: ImageInput, wanted: Wanted
) -> tuple[ModelSpec, ImageInput]:
    """Return a file's facts and what it takes, a batch that only trying tells included."""
    if content.spec is not None:
        spec = content.spec.override(wanted.facts)
        return _plausible(spec, wanted, content.spec.preprocessing, path), takes
    takes, embedding = _tried_out(path, runner, content, takes)
    stated, otherwise = stated_facts(content.facts), wanted.like.preprocessing if wanted.like else {}
    if takes.channels == 1:
        otherwise = otherwise | {"color": "gray"}
    known = otherwise | dict(wanted.facts)
    facts = {key: value for key, value in wanted.facts.items() if key not in GIVEN_TO_THE_READER}
    missing = missing_facts(facts, stated, otherwise)
    if runner.float_network(content) and missing_facts(stated):
        try:
            return load_model(path, name=wanted.name, overrides=known).spec, takes
        except UnsupportedModel:
            # A runtime may know operators that the reader does not; then nothing is recognised either.
            if missing:
                raise
    if missing:
        what = f"the file does not say how images are prepared; missing: {', '.join(missing)}"
        fix = f"{how_to_give(missing)}; or give its float model by --reference"
        raise ArtifactError(what, where=str(path), fix=fix)
    spec = ModelSpec(stated_name(content.facts) or path.stem, takes.size, embedding)
    spec = with_facts(spec, given=facts, stated=stated, otherwise=otherwise)
    if spec.input_shape != (takes.channels, *takes.size):
        what = f"the file takes images {[takes.channels, *takes.size]}, and its facts say {list(spec.input_shape)}"
        raise ArtifactError(what, where=str(path), fix="leave out model.input_size; model.color=gray is one channel")
    return _plausible(spec, wanted, otherwise | stated, path), takes


def _tried_out(path: Path, runner: Runner, content: Content, takes: ImageInput) -> tuple[ImageInput, int]:
    """Return what a file takes and the length of its embedding, by running images of zeros.

    A file that says that any number of images may enter, and has one baked in, is fed one at a time.
    """
    fixed = replace(takes, batch=takes.batch or 1)
    for one, count in ((takes, 2), (fixed, 1)) if takes.batch is None else ((takes, 1),):
        run = _in_batches(lambda inputs: runner.try_out(path, inputs, content), one.batch)
        try:
            return one, _probed(run, one, path, count)
        except ArtifactError:
            if count == 1:
                raise
    raise AssertionError("one image is always tried")


def _plausible(spec: ModelSpec, wanted: Wanted, expected: Mapping[str, Any], path: Path) -> ModelSpec:
    check_preprocessing(spec, wanted.facts, expected=expected, where=str(path))
    return spec


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


def _probed(run: Embed, takes: ImageInput, path: Path, count: int) -> int:
    """Return the length of the embedding, for which so many images of zeros are run."""
    embedding = np.asarray(run(np.zeros((count, takes.channels, *takes.size), np.float32)))
    if embedding.ndim != 2 or len(embedding) != count or embedding.shape[1] < SHORTEST_EMBEDDING:
        wanted = f"one embedding [1, D] of {SHORTEST_EMBEDDING} numbers or more"
        what = f"the model returns {list(embedding.shape)} for {count} image(s), not {wanted}"
        raise ArtifactError(what, where=str(path), fix="cut the graph at the embedding, or give another model")
    return int(embedding.shape[1])
