"""evaluation.json: what a model was judged by and the figures it got, alone and beside its float model.

Rates lie in 0..1, thresholds are cosines. A figure with an interval was found again for people drawn anew.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, ValidationError

from qface_toolkit.environment import Environment
from qface_toolkit.errors import ArtifactError
from qface_toolkit.report.figures import Block, Count, Rate, Sha256
from qface_toolkit.untrusted.json import read_json

EVALUATION_VERSION: Literal[1] = 1
LARGEST_EVALUATION_BYTES = 64_000_000
MOST_OVER = 2.0
"""How many times as many impostors as a false accept rate means may reach its threshold before a reader is told."""


def _plain(values: object) -> object:
    """Return an array, or a list that was read from JSON, as the tuple that a block holds."""
    values = values.tolist() if isinstance(values, np.ndarray) else values
    return tuple(values) if isinstance(values, list) else values


def _known(value: object) -> object:
    """Return None for the end of an interval that could not be had."""
    return None if isinstance(value, float) and math.isnan(value) else value


End = Annotated[float | None, BeforeValidator(_known)]
Rates = Annotated[tuple[Rate, ...], BeforeValidator(_plain)]
Counts = Annotated[tuple[Count, ...], BeforeValidator(_plain)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_plain)]


class Figure(Block):
    """A figure, None where it has no value, and the ends of its 95 % interval, where one could be had."""

    value: End
    low: End = None
    high: End = None


class EvaluatedModel(Block):
    """A model that was evaluated; `runtime` is a name and a version."""

    name: str
    sha256: Sha256
    runtime: str
    embedding_size: Annotated[int, Field(gt=0)]


class EvaluatedData(Block):
    """The images it was evaluated on; `sha256` is that of the set, and `details` are those of its kind."""

    kind: Literal["people", "pairs", "ijb", "drawings"]
    name: str
    images: Count
    people: Count | None = None
    pairs: Count | None = None
    sha256: Sha256
    details: dict[str, int | str | None] = {}


class RateFigures(Block):
    """TAR, and the threshold it has, at each false accept rate; `unsupported` ones have less than one impostor pair.

    `reached` is the share of impostor pairs that reach the threshold, more than the rate where scores are equal.
    """

    tar: dict[str, Rate]
    thresholds: dict[str, float]
    reached: dict[str, Rate] = {}
    unsupported: tuple[str, ...]
    eer: Rate
    eer_threshold: float

    def tied(self) -> tuple[str, ...]:
        """Return the rates where so many scores are equal that TAR flatters: a model that gives one embedding has 1."""
        return tuple(far for far, reached in self.reached.items() if reached > MOST_OVER * float(far))


class DetFigures(Block):
    """The curve of false rejects over false accepts, with the thresholds that give them."""

    far: Rates
    frr: Rates
    threshold: Numbers


class HistogramFigures(Block):
    """How many genuine and impostor scores lie between neighbouring edges."""

    edges: Numbers
    genuine: Counts
    impostor: Counts


class EveryPairFigures(Block):
    """One model on every pair of a set; `balanced` lets every person, and every two people, weigh the same."""

    images: Count
    people: Count
    genuine: Count
    impostors: Count
    rates: RateFigures
    balanced: RateFigures
    rank1: Rate
    probes: Count
    det: DetFigures
    histogram: HistogramFigures


class PairListFigures(Block):
    """One model on a list of pairs: accuracy over folds, and TAR by the field's own steps for such lists."""

    pair_accuracy: Rate
    pair_accuracy_std: Rate
    tar_bin: dict[str, Rate]
    tar_bin_std: dict[str, Rate]
    pairs: Count
    histogram: HistogramFigures


class TemplateFigures(Block):
    """One model on templates of several images; TAR is that at the FPR nearest to each one asked for."""

    tar_ijb: dict[str, Rate]
    fpr: dict[str, Rate]
    genuine: Count
    impostors: Count
    unsupported: tuple[str, ...] = ()


class DriftFigures(Block):
    """How scores moved: the model's less the float model's."""

    mean: Figure
    std: float
    percentiles: dict[str, float]


class DecisionFigures(Block):
    """Shares of the genuine and of the impostor pairs that are decided otherwise than by the float model."""

    genuine_lost: Figure
    genuine_won: Figure
    impostor_won: Figure
    impostor_lost: Figure


class ChangedPairFigures(Block):
    """A pair of images by name, and both scores."""

    first: str
    second: str
    same: bool
    reference: float
    other: float


class OperatingFigures(Block):
    """Thresholds at one FAR: the float model's, the one for this model, and what happens if the former is kept."""

    float_threshold: Figure
    threshold: Figure
    shift: Figure
    kept_far: Figure
    kept_tar: Figure
    own: DecisionFigures
    kept: DecisionFigures
    flipped: tuple[ChangedPairFigures, ...] = ()


class PairedFigures(Block):
    """A model beside its float model on the same images; see `scoring.paired` and `scoring.pair_list`."""

    figures: dict[str, Figure]
    genuine_drift: DriftFigures | None = None
    impostor_drift: DriftFigures | None = None
    at: dict[str, OperatingFigures] = {}
    own: DecisionFigures | None = None
    kept: DecisionFigures | None = None
    most_changed: tuple[ChangedPairFigures, ...] = ()


class GroupFigures(Block):
    """The losses within one group of people, and how much larger they are than for everybody (`gaps`)."""

    images: Count
    people: Count
    figures: dict[str, Figure] = {}
    gaps: dict[str, Figure] = {}
    unsupported: tuple[str, ...] = ()
    skipped: str | None = None


class ModelFigures(Block):
    """What one model got on the set, by the set's own protocol."""

    every_pair: EveryPairFigures | None = None
    pair_list: PairListFigures | None = None
    templates: TemplateFigures | None = None


class Evaluation(Block):
    """The whole of it. `flip` tells whether the mirrored image's embedding was added; `seconds` are of parts."""

    schema_version: Literal[1] = EVALUATION_VERSION
    model: EvaluatedModel
    reference: EvaluatedModel | None = None
    data: EvaluatedData
    flip: bool
    draws: Count = 0
    figures: ModelFigures
    reference_figures: ModelFigures | None = None
    paired: PairedFigures | None = None
    groups: dict[str, GroupFigures] = {}
    notes: tuple[str, ...] = ()
    seconds: dict[str, Annotated[float, Field(ge=0)]] = {}
    environment: Environment
    command: str = ""


def plain_figures(figures: Mapping[str, Any]) -> dict[str, Figure]:
    """Return measured estimates as figures of a block."""
    return {name: Figure.model_validate(one, from_attributes=True) for name, one in figures.items()}


def read_evaluation(path: Path) -> Evaluation:
    """Return the evaluation in a file, which somebody may have edited, cut short or made with another version.

    Raises:
        ArtifactError: naming the version if it is another one, or the first mistakes.
    """
    values = read_json(path, LARGEST_EVALUATION_BYTES)
    version = values.get("schema_version")
    if type(version) is not int or version != EVALUATION_VERSION:
        what = f"this evaluation has schema version {version!r}; version {EVALUATION_VERSION} is known"
        raise ArtifactError(what, where=str(path), fix="evaluate again with `qface evaluate`")
    try:
        return Evaluation.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        found = [f"\n  {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:10]]
        what = f"this is not a whole evaluation:{''.join(found)}"
        raise ArtifactError(what, where=str(path), fix="evaluate again with `qface evaluate`") from error
