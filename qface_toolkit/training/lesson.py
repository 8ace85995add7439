"""One step of learning: what the teacher says of the images, what the student says, and how far they are apart."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from qface_toolkit.models import FloatModel, ModelSpec
from qface_toolkit.quantize.memory import channels_last
from qface_toolkit.ranks import Ranks
from qface_toolkit.training.centres import Centres, gathered
from qface_toolkit.training.features import Inputs, LastMap, Likeness, error_share, map_distance
from qface_toolkit.training.feed import Batch
from qface_toolkit.training.losses import distance, relation
from qface_toolkit.training.pupil import Said
from qface_toolkit.training.rates import class_weight, falling, rising
from qface_toolkit.training.recipe import TrainingRecipe

Part = tuple[float, Tensor]
"""A part of the loss: its weight, and how large it is."""


@dataclass(frozen=True)
class Place:
    """Where and how networks compute."""

    device: torch.device
    half: bool
    channels_last: bool

    def images(self, spec: ModelSpec, batch: Batch) -> Tensor:
        """Return a batch as a network of this preprocessing eats it."""
        images = torch.from_numpy(spec.preprocess(batch.crops))
        images = images.contiguous(memory_format=torch.channels_last) if self.channels_last else images
        return images.to(self.device, non_blocking=True)

    def autocast(self) -> torch.autocast:
        """Return what lets a block compute in bfloat16 where that is wanted."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def send(self, network: nn.Module) -> nn.Module:
        """Return a network where it will compute."""
        if self.channels_last:
            channels_last(network)
        return network.to(self.device)


class Teacher:
    """The teachers of a training, of whom one is in memory at a time."""

    def __init__(
        self, load: Callable[[int], FloatModel], place: Place, *, maps: bool, alike: Likeness | None = None
    ) -> None:
        self._load, self._place, self._maps, self._alike = load, place, maps, alike or Likeness((), ())
        self._last: LastMap | None = None
        self._inputs = Inputs(nn.Identity(), ())
        self._number: int | None = None
        self._model: FloatModel | None = None

    def turn(self, number: int) -> "Teacher":
        """Return this, with the teacher of this number at work."""
        if number != self._number:
            model = self._load(number)
            self._place.send(model.network.eval())
            self._last = LastMap(model.network) if self._maps else None
            self._inputs = Inputs(model.network, self._alike.paths, self._alike.channels)
            self._model, self._number = model, number
        return self

    @property
    def spec(self) -> ModelSpec:
        """The preprocessing and sizes of who is at work."""
        return self.model.spec

    @property
    def model(self) -> FloatModel:
        """Who is at work."""
        if self._model is None:
            raise AssertionError("no teacher has had a turn yet")
        return self._model

    @torch.no_grad()
    def says(self, batch: Batch, seen: Tensor, spec: ModelSpec) -> tuple[Tensor, Tensor | None]:
        """Return the teacher's embeddings, and its last map if that is wanted.

        `seen` are the images as a student of `spec` eats them.
        """
        own = _eats(self.spec)
        images = seen if own == _eats(spec) else self._place.images(self.spec, batch)
        with self._place.autocast():
            found: Tensor = self.model.network(images)
        return found.float(), None if self._last is None else self._last.take()

    def read(self) -> tuple[Tensor, ...]:
        """Return what layers that have their like in the student read in the last pass."""
        return self._inputs.take()


def _eats(spec: ModelSpec) -> tuple[object, ...]:
    return spec.input_shape, spec.mean, spec.std, spec.color, spec.frame


@dataclass
class Lesson:
    """What losses are made of; `model` maps images to what a pupil says, `traits` are known for every identity.

    `hints` is the weight of what the pupil's layers read that have their like in the teacher.
    """

    recipe: TrainingRecipe
    model: nn.Module
    spec: ModelSpec
    place: Place
    ranks: Ranks
    teacher: Teacher | None
    centres: Centres | None
    traits: npt.NDArray[np.float32] | None
    seed: int
    hints: float = 0.0

    def parts(self, batch: Batch, passed: float, step: int) -> tuple[dict[str, Part], Tensor | None]:
        """Return the parts of a batch's loss by name, and the share of it that was told right, if there are labels.

        `passed` is how many epochs are over.
        """
        images = self.place.images(self.spec, batch)
        with self.place.autocast():
            said: Said = Said(*self.model(images))
        parts = self._from_teacher(batch, images, said)
        right = None
        if self.centres is not None:
            loss, right = self._over_identities(batch, said, passed, step)
            parts["classes"] = class_weight(passed, self.recipe.loss), loss
        if said.traits is not None and self.traits is not None:
            wanted = torch.from_numpy(self.traits[batch.labels]).to(self.place.device)
            weight = self.recipe.loss.traits * falling(passed / self.recipe.epochs)
            parts["traits"] = weight, nn.functional.mse_loss(said.traits, wanted)
        return parts, right

    def _from_teacher(self, batch: Batch, images: Tensor, said: Said) -> dict[str, Part]:
        if self.teacher is None:
            return {}
        losses = self.recipe.loss
        wanted, seen = self.teacher.says(batch, images, self.spec)
        parts: dict[str, Part] = {"kd": (losses.kd, distance(said.shown, wanted, losses.distance))}
        if losses.relation:
            # Over all ranks' images: cosines of one part of the batch alone are another loss.
            found, others = gathered(said.shown, self.ranks), self.ranks.gather(wanted).flatten(0, 1)
            parts["relation"] = losses.relation, relation(found, others)
        if said.features is not None and seen is not None:
            parts["features"] = losses.features, map_distance(said.features, seen)
        if said.read:
            parts["hints"] = self.hints, error_share(said.read, self.teacher.read())
        return parts

    def _over_identities(self, batch: Batch, said: Said, passed: float, step: int) -> tuple[Tensor, Tensor]:
        centres: Any = self.centres
        labels = torch.from_numpy(batch.labels).to(self.place.device)
        losses = self.recipe.loss
        chosen = None
        if losses.sample < 1:
            chosen = centres.choose(self.ranks.gather(labels).flatten(), losses.sample, [self.seed, 6, step])
        margin = losses.margin_width * rising(passed, losses.margin_epochs)
        loss, right = centres(said.embeddings, labels, scale=losses.scale, margin=margin, chosen=chosen)
        return loss, right
