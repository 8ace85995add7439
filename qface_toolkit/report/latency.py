"""The times of a file, as a block of report.json."""

from typing import Annotated

from pydantic import Field

from qface_toolkit.report.figures import Block, Positive
from qface_toolkit.runtimes.latency import Latency


class LatencyFigures(Block):
    """The time of one call on a batch of `batch` images; samples of the same index come from the same round.

    `among` names all that took turns in these rounds.
    """

    p50_ms: Positive
    p90_ms: Positive
    samples_ms: tuple[Positive, ...]
    among: tuple[str, ...] = ()
    threads: Annotated[int, Field(gt=0)]
    batch: Annotated[int, Field(gt=0)]

    @classmethod
    def of(cls, latency: Latency, *, threads: int, batch: int) -> "LatencyFigures":
        """Return what was measured, with the conditions it was measured under."""
        figures = {
            "p50_ms": latency.p50_ms,
            "p90_ms": latency.p90_ms,
            "samples_ms": latency.samples_ms,
            "among": latency.among,
        }
        return cls.model_validate({**figures, "threads": threads, "batch": batch})
