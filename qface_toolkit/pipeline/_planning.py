"""What a job would be: its recipe and its checkpoint read and checked against each other, and nothing written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from torch import nn

from qface_toolkit.backends import BACKENDS, backend_names, expand_backends
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.environment import usable_cores
from qface_toolkit.methods import METHODS
from qface_toolkit.models import FloatModel, from_module, load_model
from qface_toolkit.pipeline._budget import check_budget, steps_of, with_islands
from qface_toolkit.pipeline._preparation import judge_preprocessing
from qface_toolkit.pipeline._refusals import check_scheme, check_simulation
from qface_toolkit.pipeline._speed import check_speed
from qface_toolkit.pipeline._times import find_form_tables
from qface_toolkit.quantize.image_input import input_convolution
from qface_toolkit.quantize.weights import scheme_for
from qface_toolkit.recipe import Recipe, load_recipe
from qface_toolkit.result.job import Job
from qface_toolkit.sources import find_set

DEMO = "demo"


def plan_job(
    source: str | Path | nn.Module | FloatModel,
    *,
    recipe: str = "int8",
    sets: Sequence[str] = (),
    name: str | None = None,
    backends: Sequence[str] = (),
    seed: int = 0,
    threads: int | None = None,
    faces: str | Path | None = None,
    command: str = "",
) -> Job:
    """Read the recipe and the checkpoint and check that both make sense; nothing is written.

    `faces` is a folder of aligned crops for the check of the preprocessing alone.

    Raises:
        QFaceError: whatever is wrong with either.
    """
    wanted = load_recipe(recipe, sets, methods=_schemas(), backends=backend_names())
    named = expand_backends(backends or wanted.backends)
    if named != wanted.backends:
        wanted = wanted.model_copy(update={"backends": named})
    check_simulation(wanted)
    check_budget(wanted)
    images, tables = find_set(wanted.calibration.set), find_form_tables(wanted.target.lowering)
    loaded = _float_model(source, name, wanted)
    images.open(wanted.calibration.count, seed, loaded)
    canonical = canonicalise(loaded.network, loaded.spec.input_size, loaded.spec.channels)
    wanted = with_islands(wanted, canonical)
    steps = steps_of(wanted)
    for step in steps:
        METHODS.get(step.method).check(step.options, canonical)
    scheme = scheme_for(wanted.scheme.model_dump(), canonical)
    check_scheme(scheme, canonical)
    for name in wanted.backends:
        BACKENDS.get(name).check(name, scheme, canonical)
    if wanted.export.input == "uint8":
        input_convolution(canonical)
    check_speed(wanted, canonical, loaded.spec)
    loaded = judge_preprocessing(loaded, faces, wanted.model, known=isinstance(source, str | Path))
    return Job(
        loaded,
        canonical,
        wanted,
        recipe,
        seed,
        threads or usable_cores(),
        verify=source == DEMO,
        command=command,
        steps=steps,
        form_tables=tables,
    )


def read_full_recipe(name: str) -> dict[str, Any]:
    """Return a recipe with every default filled in, as plain values."""
    return load_recipe(name, methods=_schemas(), backends=backend_names()).as_plain()


def _schemas() -> dict[str, type[BaseModel]]:
    return {name: method.options for name, method in METHODS.entries().items()}


def _float_model(source: str | Path | nn.Module | FloatModel, name: str | None, recipe: Recipe) -> FloatModel:
    model = _with_facts(source, name, recipe.model)
    doubts = () if "crop" in recipe.model else model.spec.doubts
    return replace(model, notes=(*model.notes, *doubts), warnings=(*model.warnings, *doubts))


def _with_facts(source: str | Path | nn.Module | FloatModel, name: str | None, facts: Mapping[str, Any]) -> FloatModel:
    if isinstance(source, str | Path):
        return load_model(source, name=name, overrides=facts)
    if isinstance(source, FloatModel):
        return source.with_facts(facts)
    taken = {key: facts[key] for key in ("input_size", "mean", "std", "color", "crop", "checked") if key in facts}
    return from_module(source, name=name, **taken).with_facts(facts)
