"""The training of a canonical network, or of its simulation, by the float model that it came from."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from qface_toolkit.methods._base import Context
from qface_toolkit.methods._services import Crops, Reference, Shelf
from qface_toolkit.models import FloatModel
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.simulation import prepare, with_weights
from qface_toolkit.ranks import ALONE
from qface_toolkit.training.course import Course, Nowhere
from qface_toolkit.training.features import Likeness
from qface_toolkit.training.feed import Feed
from qface_toolkit.training.held_out import HeldOut, embed, measure, read_held_out
from qface_toolkit.training.lesson import Lesson, Place, Teacher
from qface_toolkit.training.likeness import find_likeness
from qface_toolkit.training.pupil import Pupil, Sizes, quicken
from qface_toolkit.training.recipe import TrainingRecipe
from qface_toolkit.training.rounded import RoundedNetwork

LIKENESS_IMAGES = 16
"""Images that show which channels go together."""
PLACE = Place(torch.device("cpu"), half=False, channels_last=True)


class Teaching:
    """One training: what learns, what it learns from, and what it is judged by."""

    def __init__(self, model: QuantizedModel, recipe: TrainingRecipe, context: Context, held_out: int) -> None:
        self.model, self.recipe, self.context = model, recipe, context
        crops, reference = context.service(Crops), context.service(Reference)
        assert crops is not None, "needs are checked"
        self.images, self.judged = crops.data.split(held_out)
        self.teacher = FloatModel(_whole(reference, model), model.spec, "")
        self.rounds = bool(model.ranges)
        self.network: nn.Module = (
            RoundedNetwork(prepare(model, context.target)) if self.rounds else copy.deepcopy(model.network)
        )

    def run(self, hints: float) -> QuantizedModel:
        """Return the model with the weights that were learnt, or its own if no epoch was better and the best is kept.

        Raises:
            TrainingError: if the loss is not finite any more.
        """
        held_out = read_held_out(self.judged)
        before, score = copy.deepcopy(self.network.state_dict()), self._score(held_out)
        course = self._course(held_out, hints)
        course.run()
        course.pupil.alone()
        self.context.progress(course.steps, course.steps)
        best = course.history.best
        if self.recipe.patience is not None and (best is None or best <= score):
            self.network.load_state_dict(before)
        return self._learnt()

    def _learnt(self) -> QuantizedModel:
        if isinstance(self.network, RoundedNetwork):
            return with_weights(self.model, self.network.simulation)
        trained = copy.deepcopy(self.model.network)
        weights: Mapping[str, Tensor] = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        trained.load_state_dict(weights)
        return replace(self.model, network=trained)

    def _score(self, held_out: HeldOut) -> float:
        wanted = embed(self.teacher.network, self.model.spec, held_out.crops, PLACE.device)
        found = embed(self.network, self.model.spec, held_out.crops, PLACE.device)
        score = measure(found, wanted, held_out).score
        assert score is not None, "there is a teacher"
        return score

    def _course(self, held_out: HeldOut, hints: float) -> Course:
        recipe, spec, context = self.recipe, self.model.spec, self.context
        alike = self._likeness() if hints else Likeness((), ())
        inside = "simulation.prepared." if self.rounds else ""
        sizes, own = Sizes(spec.embedding_size, spec.embedding_size), [inside + path for path in alike.paths]
        pupil = Pupil(self.network, sizes, context.seed, own)
        quicken(pupil)
        PLACE.send(pupil.train())
        shelf = context.service(Shelf)
        lesson = Lesson(
            recipe=recipe,
            model=pupil,
            spec=spec,
            place=PLACE,
            ranks=ALONE,
            teacher=Teacher(lambda number: self.teacher, PLACE, maps=False, alike=alike),
            centres=None,
            traits=None,
            seed=context.seed,
            hints=hints,
        )
        feed = Feed(self.images, recipe.augment, batch_size=recipe.batch_size, seed=context.seed, ranks=ALONE)
        keeper = shelf.keeper if shelf is not None else Nowhere()
        return Course(recipe, feed, lesson, pupil, (0,), held_out, ALONE, keeper, context.progress)

    def _likeness(self) -> Likeness:
        """Return which layers read what the float model's read."""
        images = torch.from_numpy(self.context.inputs[:LIKENESS_IMAGES])
        return find_likeness(self.model.network, self.teacher.network, images)  # type: ignore[arg-type]


def _whole(reference: Reference | None, model: QuantizedModel) -> fx.GraphModule:
    """Return a copy of the float network as it came."""
    known = reference.network if reference is not None and reference.network is not None else model.network
    whole: Any = copy.deepcopy(known)
    return whole.eval()  # type: ignore[no-any-return]
