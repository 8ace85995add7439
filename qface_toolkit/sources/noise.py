"""Uniform noise: the set without any information, which every other one must beat to earn its place."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from qface_toolkit.framing import STANDARD, Frame
from qface_toolkit.sources._base import Crop, CropsByIndex, Provenance

if TYPE_CHECKING:
    from qface_toolkit.models import FloatModel


class NoiseOptions(BaseModel):
    """Noise has no options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Noise:
    """The calibration source of uniform noise; see Source."""

    options: type[BaseModel] = NoiseOptions

    def provenance(
        self,
        options: Any,  # noqa: ANN401  see Source
        *,
        count: int,
        model: "FloatModel | None" = None,
    ) -> Provenance:
        """Return no warning: numpy's integers are the same everywhere."""
        return Provenance(contains_no_real_face_data=True)

    def open(
        self,
        options: Any,  # noqa: ANN401  see Source
        *,
        count: int,
        seed: int,
        model: "FloatModel | None" = None,
        frame: Frame = STANDARD,
    ) -> CropsByIndex:
        """Return a set of `count` pictures of independent random pixels, as large as the frame."""
        return CropsByIndex(count, partial(_pixels, seed, frame.size))


def _pixels(seed: int, size: tuple[int, int], index: int) -> Crop:
    return np.random.default_rng([seed, 3, index]).integers(0, 256, (*size, 3), dtype=np.uint8)


ENTRIES = {"noise": Noise()}
