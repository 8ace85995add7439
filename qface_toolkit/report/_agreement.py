"""How close two models' embeddings are, as figures: the cosines of images in short, and how they are spread."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from qface_toolkit.report.figures import Block, Cosine, Count
from qface_toolkit.scoring.agreement import Agreement

HISTOGRAM_BINS = 40
_NARROWEST = 1e-6


class CosineHistogram(Block):
    """How many images have a cosine between neighbouring edges; the last bin holds its upper edge too."""

    edges: tuple[Cosine, ...]
    counts: tuple[Count, ...]

    @model_validator(mode="after")
    def _edges_enclose_counts(self) -> "CosineHistogram":
        rising = all(low < high for low, high in zip(self.edges, self.edges[1:], strict=False))
        if not rising or not self.counts or len(self.edges) != len(self.counts) + 1:
            raise ValueError("the edges must rise, and be one more than the counts")
        return self

    @classmethod
    def of(cls, cosines: npt.NDArray[np.float64]) -> "CosineHistogram":
        """Return the histogram of cosines [N], from the lowest one to 1."""
        lowest = min(float(cosines.min()), 1 - _NARROWEST)
        counts, edges = np.histogram(cosines, bins=HISTOGRAM_BINS, range=(lowest, 1.0))
        return cls(edges=tuple(map(float, edges)), counts=tuple(map(int, counts)))


class AgreementFigures(Block):
    """Cosines between two models' embeddings of the same images; `what` says which images and which models."""

    cosine_mean: Cosine
    cosine_p1: Cosine
    cosine_min: Cosine
    images: Annotated[int, Field(gt=0)]
    what: str
    histogram: CosineHistogram | None = None

    @model_validator(mode="after")
    def _every_image_counted(self) -> "AgreementFigures":
        if self.histogram is not None and sum(self.histogram.counts) != self.images:
            raise ValueError("the histogram does not hold as many images as were compared")
        return self

    @classmethod
    def of(
        cls, agreement: Agreement, *, what: str, cosines: npt.NDArray[np.float64] | None = None
    ) -> "AgreementFigures":
        """Return what was measured, with the images and models it was measured on."""
        return cls(
            cosine_mean=agreement.cosine_mean,
            cosine_p1=agreement.cosine_p1,
            cosine_min=agreement.cosine_min,
            images=agreement.count,
            what=what,
            histogram=None if cosines is None else CosineHistogram.of(cosines),
        )
