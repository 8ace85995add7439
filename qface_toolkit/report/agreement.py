"""How close a file is to the float model: cosines between embeddings, and how well both tell drawn people apart."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from qface_toolkit.report import plots
from qface_toolkit.report.figures import NOTHING, Block, Cosine, Count, Rate, clean, percent
from qface_toolkit.report.page import Plot, Section, Table
from qface_toolkit.scoring.agreement import Agreement
from qface_toolkit.scoring.groups import GroupLoss
from qface_toolkit.scoring.identities import Verification

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


class ToneLoss(Block):
    """What drawn people of one broad skin tone lose: their mean cosine, and their loss against everybody's.

    `low` and `high` are the ends of the ratio's 95 % interval, people drawn anew.
    """

    tone: str
    people: Count
    cosine_mean: Cosine
    loss_ratio: Annotated[float, Field(ge=0)]
    low: Annotated[float, Field(ge=0)]
    high: Annotated[float, Field(ge=0)]


class AgreementFigures(Block):
    """Cosines between two models' embeddings of the same images; `what` says which images and which models.

    `tones` is there for files that were measured on enough drawn people.
    """

    cosine_mean: Cosine
    cosine_p1: Cosine
    cosine_min: Cosine
    images: Annotated[int, Field(gt=0)]
    what: str
    histogram: CosineHistogram | None = None
    tones: tuple[ToneLoss, ...] = ()

    @model_validator(mode="after")
    def _every_image_counted(self) -> "AgreementFigures":
        if self.histogram is not None and sum(self.histogram.counts) != self.images:
            raise ValueError("the histogram does not hold as many images as were compared")
        return self

    @classmethod
    def of(
        cls,
        agreement: Agreement,
        *,
        what: str,
        cosines: npt.NDArray[np.float64] | None = None,
        tones: Sequence[GroupLoss] = (),
    ) -> "AgreementFigures":
        """Return what was measured, with the images and models it was measured on."""
        return cls(
            cosine_mean=agreement.cosine_mean,
            cosine_p1=agreement.cosine_p1,
            cosine_min=agreement.cosine_min,
            images=agreement.count,
            what=what,
            histogram=None if cosines is None else CosineHistogram.of(cosines),
            tones=tuple(
                ToneLoss(
                    tone=one.name,
                    people=one.people,
                    cosine_mean=one.cosine_mean,
                    loss_ratio=one.loss_ratio.value,
                    low=one.loss_ratio.low,
                    high=one.loss_ratio.high,
                )
                for one in tones
            ),
        )


class VerificationFigures(Block):
    """How well one model tells people apart; `tar` is keyed by the false accept rate ("1e-3")."""

    pair_accuracy: Rate
    pair_accuracy_std: Rate
    tar: dict[str, Rate]
    pairs: Count

    @classmethod
    def of(cls, verification: Verification) -> "VerificationFigures":
        """Return what was measured."""
        return cls(
            pair_accuracy=verification.pair_accuracy,
            pair_accuracy_std=verification.pair_accuracy_std,
            tar=verification.tar,
            pairs=verification.pairs,
        )


class VerificationBlock(Block):
    """Verification of the float model and of artifacts, by their names; `protocol` says on what and how."""

    protocol: str
    float_model: VerificationFigures
    artifacts: dict[str, VerificationFigures]


def cosines_section(name: str, found: AgreementFigures, spread: CosineHistogram) -> Section:
    """Return how the cosines of a file are spread."""
    file, edges, counts = clean(name), spread.edges, spread.counts
    what = f"How many of {found.images} images have which cosine, {file}"
    draw = partial(plots.histogram_picture, counts, edges, found.cosine_mean, found.cosine_p1)
    plot = Plot("plot-histogram", what, "The table has the counts.", draw)
    bins = zip(edges, edges[1:], counts, strict=False)
    rows = [[f"{low:.5f} to {high:.5f}", str(count)] for low, high, count in bins if count]
    table = Table(f"Images by cosine, {file}", ("cosine", "images"), rows)
    said = (f"Between the embeddings of {file} and those of the float model: {clean(found.what)}.",)
    return Section("cosines", "How the cosines are spread", said, (plot, table), page_only=True)


def verification_section(block: VerificationBlock) -> Section:
    """Return how well the float model and each file tell drawn people apart."""
    headings = ("model", "accuracy", "spread", "pairs", *(f"TAR at FAR {far}" for far in rates_of(block)))
    table = Table("Verification of held-out drawings", headings, verification_rows(block))
    return Section("accuracy", "Telling people apart", (clean(block.protocol),), (table,))


def rates_of(block: VerificationBlock) -> list[str]:
    """Return the false accept rates of the float model, which have a column each."""
    return [clean(far, 12) for far in block.float_model.tar]


def verification_rows(block: VerificationBlock) -> list[list[str]]:
    """Return name, accuracy, its spread over folds, pairs and a rate for each false accept rate, of every model."""
    return [
        [
            clean(name),
            percent(one.pair_accuracy),
            percent(one.pair_accuracy_std),
            str(one.pairs),
            *(percent(one.tar[far]) if far in one.tar else NOTHING for far in block.float_model.tar),
        ]
        for name, one in (("float model", block.float_model), *block.artifacts.items())
    ]
