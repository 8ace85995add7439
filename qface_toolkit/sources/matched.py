"""Drawings fitted to one float model: moved until its BatchNorm layers see the mean and spread they saw in training.

It needs no labels and no classifier, so it works on a network that ends in the embedding (ZeroQ, arXiv 2001.00281).
The statistics are averages over all training images and pixels, of which none can be told from another, and no image is
copied; but they and the weights that lead there were made from those images, mostly real faces. So a manifest does not
claim that such pixels are free of real face data: it says unknown, and why. A model without statistics gets drawings as
they are, and a manifest that says so.
"""

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from qface_toolkit.errors import CalibrationError
from qface_toolkit.framing import STANDARD, Frame
from qface_toolkit.sources._base import Crop, ImageSet, Provenance
from qface_toolkit.sources._identity import Attributes
from qface_toolkit.sources.procedural import Drawings, ProceduralOptions, version_warnings

if TYPE_CHECKING:
    from qface_toolkit.models import FloatModel
    from qface_toolkit.sources._matching import Matcher

REFINED = (
    "moved towards the float model's BatchNorm statistics: averages over the images that it was trained on, which may "
    "have been real faces"
)
UNCHANGED = (
    "the float model holds no BatchNorm statistics (ONNX exports have them folded into other layers), so these are "
    "drawings as they were drawn"
)


class MatchedOptions(BaseModel):
    """How drawings are fitted to the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: int = Field(default=20, ge=1, description="gradient steps for each batch")
    share: float = Field(default=1.0, gt=0, le=1, description="of the images are refined; 0.5 is every second one")
    attributes: Attributes = Field(default="calibration", description="of the drawings: see the source procedural")
    learning_rate: float = Field(default=2.0, gt=0, description="how far a pixel moves in one step at first, of 255")
    closeness: float = Field(default=0.1, ge=0, description="how much staying near the drawing weighs")
    batch: int = Field(default=32, ge=2, description="images whose statistics are matched together")


class MatchedCrops:
    """A set of drawings, some of them refined in whole batches; see ImageSet. One batch is kept at a time.

    A batch is drawn whole even where the set ends within it, so that growing a set changes none of it.
    """

    def __init__(self, options: MatchedOptions, model: "FloatModel", *, count: int, seed: int) -> None:
        self._options, self._model, self._count = options, model, count
        self._matcher: Matcher | None = None
        # Partners in the last batch may lie beyond the end of the set, and drawings know no end.
        drawn = ProceduralOptions(attributes=options.attributes)
        self._drawings = Drawings(drawn, count=count, seed=seed, frame=model.spec.frame)
        self._share = Fraction(options.share).limit_denominator(1000)
        self._batch: tuple[int, Crop] | None = None

    def __len__(self) -> int:
        """Return how many images there are."""
        return self._count

    def crop(self, index: int) -> Crop:
        """Return one image in the model's frame, uint8 [H, W, 3], RGB; the first of a batch takes as long as all."""
        place = index * self._share.numerator // self._share.denominator
        if self._index_of(place) != index:
            return self._drawings.crop(index)
        number, row = divmod(place, self._options.batch)
        if self._batch is None or self._batch[0] != number:
            self._batch = number, self._refined(number)
        crop: Crop = self._batch[1][row]
        return crop

    def _index_of(self, place: int) -> int:
        """Return the index of refined image `place`: those where `index * share` passes a whole number."""
        return -(-(place + 1) * self._share.denominator // self._share.numerator) - 1

    def _refined(self, number: int) -> Crop:
        options = self._options
        places = range(number * options.batch, (number + 1) * options.batch)
        crops = np.stack([self._drawings.crop(self._index_of(place)) for place in places])
        if self._matcher is None:
            self._matcher = _matcher(self._model)
        return self._matcher.refined(
            crops, iterations=options.iterations, learning_rate=options.learning_rate, closeness=options.closeness
        )


class Matched:
    """Drawn faces moved to where the float model's BatchNorm statistics are met; see Source."""

    options: type[BaseModel] = MatchedOptions

    def provenance(
        self,
        options: Any,  # noqa: ANN401  see Source
        *,
        count: int,
        model: "FloatModel | None" = None,
    ) -> Provenance:
        """Return which model the images were fitted to, or that they were not."""
        known = _known(model)
        parameters = {"model_sha256": known.source_sha256}
        if not _has_statistics(known):
            return Provenance(True, (UNCHANGED, *version_warnings()), parameters)
        return Provenance(None, (REFINED, *version_warnings()), parameters)

    def open(
        self,
        options: Any,  # noqa: ANN401  see Source
        *,
        count: int,
        seed: int,
        model: "FloatModel | None" = None,
        frame: Frame = STANDARD,
    ) -> ImageSet:
        """Return a set of `count` images in the model's frame; nothing is drawn or refined before it is asked for.

        Raises:
            CalibrationError: if there is no model.
        """
        known = _known(model)
        if not _has_statistics(known):
            return Drawings(ProceduralOptions(attributes=options.attributes), count=count, seed=seed, frame=frame)
        return MatchedCrops(options, known, count=count, seed=seed)


def _known(model: "FloatModel | None") -> "FloatModel":
    if model is None:
        raise CalibrationError(
            "this calibration set is fitted to a float model, and none is known here",
            fix="give it by --for CHECKPOINT, or let qface compress make it",
        )
    return model


def _has_statistics(model: "FloatModel") -> bool:
    from qface_toolkit.sources._matching import statistics_layers

    return bool(statistics_layers(model.network))


def _matcher(model: "FloatModel") -> "Matcher":
    from qface_toolkit.sources._matching import Matcher

    return Matcher(model)


ENTRIES = {"matched": Matched()}
