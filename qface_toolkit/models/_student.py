"""Students: fresh networks of a known architecture, wider or narrower or of other cells, and those that go on.

A student's word is an architecture's name, a YAML file that says a PocketNet's cells, or a checkpoint.
"""

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from qface_toolkit.errors import RecipeError, UnknownName
from qface_toolkit.models._architecture import ARCHITECTURES, Architecture, Plan, ScalablePlan, ToldPlan
from qface_toolkit.models._checkpoint import DEMO, load_model
from qface_toolkit.models._genotype import PocketNetFile
from qface_toolkit.models._match import match, needed_shapes
from qface_toolkit.models._model import FloatModel, weights_sha256
from qface_toolkit.models._spec import LONGEST_EMBEDDING, PREPROCESSING, SHORTEST_EMBEDDING, ModelSpec
from qface_toolkit.models._student_file import check_writable
from qface_toolkit.models.pocketnet import PocketNetPlan
from qface_toolkit.untrusted.formats import MODEL_ENDINGS
from qface_toolkit.untrusted.settings import worded
from qface_toolkit.untrusted.yaml import read_text, read_yaml

NARROWEST, WIDEST = 0.1, 4.0
"""Of a student's width, as a multiple of the published one."""

_YAML = (".yaml", ".yml")
_POCKETNET = "pocketnet-s-128"
"""Whose facts every PocketNet has."""
_KEYS = ", ".join(PocketNetFile.model_fields)
_ORIGIN = "fresh weights, not trained"


def build_student(name: str, *, width: float = 1.0, embedding_size: int | None = None, seed: int = 0) -> FloatModel:
    """Build a network of a registered architecture with fresh weights, the same ones for the same seed.

    `width` multiplies its channels, and `embedding_size` replaces the published one. The facts are those that the
    architecture was published with, but for license and origin, which are of others' weights. torch's own generator
    is left as it was.

    Raises:
        UnknownName: if there is no architecture called `name`.
        RecipeError: if it cannot have that width or embedding.
    """
    architecture = ARCHITECTURES.get(name)
    return _fresh(architecture, architecture.published, width, embedding_size, seed)


def open_student(
    student: str,
    *,
    width: float = 1.0,
    embedding_size: int | None = None,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
) -> FloatModel:
    """Open what a student's word stands for: an architecture's name, a PocketNet's YAML file, or a checkpoint.

    A checkpoint may be a file, a folder that training wrote, or the word `demo`. `overrides` replaces facts; see
    `ModelSpec.override`.

    Raises:
        UnknownName: if the word is no name, and no path either.
        RecipeError: listing the mistakes of a YAML file, or if the network cannot have that width or embedding.
        CheckpointError: if a checkpoint cannot be used, or its weights alone could not be read back after training.
    """
    path = Path(student)
    if student in ARCHITECTURES.names():
        model = build_student(student, width=width, embedding_size=embedding_size, seed=seed)
    elif path.suffix.lower() in _YAML:
        plan = _plan_in(path)
        model = _fresh(ARCHITECTURES.get(_POCKETNET), plan, width, embedding_size, seed)
    elif student == DEMO or _is_path(student):
        return _loaded(student, width, embedding_size, overrides)
    else:
        raise _unknown(student)
    return model.with_facts(overrides or {})


def _fresh(architecture: Architecture, plan: Plan, width: float, size: int | None, seed: int) -> FloatModel:
    plan = _resized(_scaled(plan, width), size)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        network = plan.build().eval()
    facts = {key: getattr(architecture, key) for key in (*PREPROCESSING, "crop")}
    spec = ModelSpec(plan.name, plan.input_size, plan.embedding_size, **facts, origin=_ORIGIN)
    return FloatModel(network, spec, weights_sha256(network), (f"not trained: fresh weights of seed {seed}",))


def _scaled(plan: Plan, width: float) -> Plan:
    if width == 1:
        return plan
    if not math.isfinite(width) or not NARROWEST <= width <= WIDEST:
        what = f"a student's width is {NARROWEST} to {WIDEST} times the published one, and not {width}"
        raise RecipeError(what, where="width", fix="give a width such as 0.5")
    if not isinstance(plan, ScalablePlan):
        others = sorted(n for n, one in ARCHITECTURES.entries().items() if isinstance(one.published, ScalablePlan))
        what = f"{plan.name} has one width alone"
        raise RecipeError(what, where="width", fix=f"leave the width out, or take one of: {', '.join(others)}")
    return plan.scaled(width)


def _resized(plan: Plan, size: int | None) -> Plan:
    """Return the plan with an embedding of this size, if its network is recognised again by its weights."""
    if size in (None, plan.embedding_size):
        return plan
    fields = {field.name for field in dataclasses.fields(plan)}  # type: ignore[arg-type]  # plans are dataclasses
    if not isinstance(size, int) or not SHORTEST_EMBEDDING <= size <= LONGEST_EMBEDDING:
        what = f"an embedding has {SHORTEST_EMBEDDING} to {LONGEST_EMBEDDING} numbers, and not {size}"
        raise RecipeError(what, where="embedding_size", fix="give a size such as 128")
    changed: Plan | None = None
    if "embedding_size" in fields:
        changed = dataclasses.replace(plan, embedding_size=size)  # type: ignore[type-var]
    if changed is None or not _is_recognised(changed):
        what = f"{plan.name} has embeddings of {plan.embedding_size} numbers alone"
        raise RecipeError(what, where="embedding_size", fix="leave the size out, or take another architecture")
    return changed


def _is_recognised(plan: Plan) -> bool:
    found = match(needed_shapes(plan), texts=plan.texts if isinstance(plan, ToldPlan) else {})
    return found.plan == plan and not found.difference


def _plan_in(path: Path) -> PocketNetPlan:
    """Return the plan that a YAML file of a stranger's says."""
    values = read_yaml(read_text(path, "network"), where=str(path))
    if not isinstance(values, dict):
        raise RecipeError("the network's file is no block of keys", where=str(path), fix=f"write one: {_KEYS}")
    try:
        said = PocketNetFile.model_validate(values)
    except ValidationError as error:
        mistakes = worded(error, PocketNetFile)
        count = "one mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        what = "\n  ".join((f"the network's file holds {count}:", *mistakes))
        raise RecipeError(
            what, where=str(path), fix=f"correct each of the lines above; the keys are {_KEYS}"
        ) from error
    return PocketNetPlan(said.width, said.cells, said.embedding_size, said.head, said.normal, said.reduce)


def _loaded(student: str, width: float, size: int | None, overrides: Mapping[str, Any] | None) -> FloatModel:
    model = load_model(student, overrides=overrides)
    if width != 1:
        what = "a checkpoint's network is as wide as its weights are"
        raise RecipeError(what, where=student, fix=f"leave the width out, or give a name such as {model.spec.name}")
    if size not in (None, model.spec.embedding_size):
        what = f"the checkpoint's network has embeddings of {model.spec.embedding_size} numbers, and not {size}"
        raise RecipeError(what, where=student, fix="leave the size out")
    check_writable(model, where=student)
    return model


def _is_path(student: str) -> bool:
    """Tell whether a word is meant as a path, so that what is wrong with it is said of a file."""
    return os.sep in student or Path(student).suffix.lower() in MODEL_ENDINGS or os.path.lexists(student)


def _unknown(student: str) -> UnknownName:
    try:
        ARCHITECTURES.get(student)
    except UnknownName as error:
        fix = f"{error.fix} (a checkpoint, and a PocketNet's YAML file, is given by its path)"
        return UnknownName(error.what, where=error.where, fix=fix)
    raise AssertionError("it is a name")
