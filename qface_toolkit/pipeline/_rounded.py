"""A student that learns through its network as int8 computes it: the fake quantizers of FX graph mode, ranges fixed.

The recipe that will lower it says what is done before: which ranges are set, from which images, for which target. What
was learnt is written as a float ONNX file, its BatchNorms folded as they were while it learnt.
"""

from dataclasses import dataclass, replace
from typing import cast

import torch

from qface_toolkit.backends import BACKENDS, float_files
from qface_toolkit.canonical.edit import ensure_shapes
from qface_toolkit.errors import RecipeError
from qface_toolkit.methods import Context, apply_method, gives
from qface_toolkit.models import FloatModel
from qface_toolkit.pipeline._planning import plan_job
from qface_toolkit.quantize.forms import operator_table
from qface_toolkit.quantize.groups import choose_groups
from qface_toolkit.quantize.model import QuantizedModel, new_model
from qface_toolkit.quantize.simulation import prepare, with_weights
from qface_toolkit.result.job import Job
from qface_toolkit.sources import find_set, load_crops
from qface_toolkit.training.rounded import RoundedNetwork


@dataclass(frozen=True)
class Rounded:
    """A student as int8 will compute it, and the job that will lower it."""

    job: Job
    model: QuantizedModel
    network: RoundedNetwork

    def onnx(self, origin: str) -> bytes:
        """Return what the network has learnt, as the float ONNX file that `compress` reads."""
        trained = with_weights(self.model, self.network.simulation).network
        spec = replace(self.job.model.spec, origin=origin)
        model = replace(self.job.model, network=trained, spec=spec)
        job = replace(self.job, model=model, canonical=trained)
        return float_files()[0].write(model, trained, job.facts())


def rounded(student: FloatModel, recipe: str, *, seed: int, threads: int) -> Rounded:
    """Return a trained student with its ranges set by a recipe of `compress`, ready to learn with rounding.

    Raises:
        QFaceError: if it cannot be quantized, or the recipe holds a step that does more than set ranges.
    """
    # A floor is judged when the result is lowered: before it has learnt, a network may well be below.
    job = plan_job(student, recipe=recipe, sets=["budget.floor_cosine=null"], seed=seed, threads=threads)
    for step in job.steps:
        if gives(step, "simulation"):
            what = f"the step {step.method} leaves no model to train"
            raise RecipeError(what, where=recipe, fix="give a recipe that sets ranges, such as born-int8")
    ensure_shapes(job.canonical, job.model.spec.input_size, job.model.spec.channels)
    model = new_model(job.canonical, job.model.spec, job.deployment)
    if job.form_tables is None:
        raise RecipeError("times cannot be measured for a training", where=recipe, fix="--set target.lowering=table")
    model = model.with_groups(choose_groups(job.canonical, operator_table(job.form_tables), job.deployment))
    model = model.with_scheme(job.scheme)
    target, wanted = BACKENDS.get(job.recipe.backends[0]).target, job.recipe.calibration
    images = find_set(wanted.set).with_(wanted.count, seed).open(model=job.model)
    inputs = job.model.spec.preprocess(load_crops(images))
    for step in job.steps:
        context = Context(inputs, target, seed, wanted.batch_size, _silent)
        model = cast(QuantizedModel, apply_method(step.method, step.options, model, context))
    with torch.no_grad():
        return Rounded(job, model, RoundedNetwork(prepare(model, target)))


def _silent(done: int, total: int) -> None:
    return
