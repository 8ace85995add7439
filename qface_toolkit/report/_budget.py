"""What a wanted cosine cost, as figures: the block of report.json about layers kept in float."""

from typing import Annotated

from pydantic import Field, model_validator

from qface_toolkit.report.figures import Block, Cosine, Count, Positive


class ParetoPoint(Block):
    """A file with the first so many of the kept layers in float: its bytes, its latency and its cosines to float.

    `times_faster` compares with the file that keeps none, round by round, which a busy machine disturbs least.
    """

    layers: Count
    size_bytes: Annotated[int, Field(gt=0)]
    p50_ms: Positive | None = None
    times_faster: Positive | None = None
    cosine_mean: Cosine
    cosine_min: Cosine


class BudgetBlock(Block):
    """The layers that `artifact` keeps in float to reach a mean cosine, in the order in which they were chosen.

    `layers` counts all that there are. The points were timed in turns; the last one is the artifact itself. They were
    compared with the float model on `images` drawings that nothing was chosen with.
    """

    cosine_mean_wanted: Annotated[float, Field(gt=0, lt=1)]
    artifact: str
    layers: Count
    kept: tuple[str, ...]
    images: Annotated[int, Field(gt=0)]
    points: tuple[ParetoPoint, ...] = Field(min_length=1)

    @property
    def reached(self) -> bool:
        """Whether the artifact's mean cosine is the one that was wanted."""
        return self.points[-1].cosine_mean >= self.cosine_mean_wanted

    @model_validator(mode="after")
    def _points_end_with_the_artifact(self) -> "BudgetBlock":
        counts = [point.layers for point in self.points]
        if len({point.times_faster is None for point in self.points} | {one.p50_ms is None for one in self.points}) > 1:
            raise ValueError("either all points have a latency or none")
        if counts[0] != 0 or counts[-1] != len(self.kept) or counts != sorted(set(counts)):
            raise ValueError("the points must begin without kept layers and end with all of them")
        if len(self.kept) > self.layers:
            raise ValueError("more layers are kept than there are")
        return self
