"""Uniform noise: the set without any information, which every other one must beat to earn its place."""

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from qface_toolkit.sources._base import Crop, Provenance
from qface_toolkit.sources._shapes import SIZE

if TYPE_CHECKING:
    from qface_toolkit.models import FloatModel


class NoiseOptions(BaseModel):
    """Noise has no options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoiseCrops:
    """A set of independent random pixels; see ImageSet."""

    def __init__(self, *, count: int, seed: int) -> None:
        self._count = count
        self._seed = seed

    def __len__(self) -> int:
        """Return how many crops there are."""
        return self._count

    def crop(self, index: int) -> Crop:
        """Return crop `index`, uint8 [112, 112, 3]; it depends on the seed and the index alone."""
        rng = np.random.default_rng([self._seed, 3, index])
        return rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


class Noise:
    """The calibration source of uniform noise; see Source."""

    options: type[BaseModel] = NoiseOptions

    def provenance(self, model: "FloatModel | None") -> Provenance:
        """Return no warning: numpy's integers are the same everywhere."""
        return Provenance(contains_no_real_face_data=True)

    def open(
        self,
        options: Any,  # noqa: ANN401  see Source
        *,
        count: int,
        seed: int,
        model: "FloatModel | None" = None,
    ) -> NoiseCrops:
        """Return a set of `count` crops."""
        return NoiseCrops(count=count, seed=seed)


ENTRIES = {"noise": Noise()}
