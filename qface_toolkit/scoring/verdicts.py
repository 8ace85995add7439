"""What a machine's runtimes make of a result's files, against what they were expected to make: one verdict a file."""

from dataclasses import dataclass
from typing import Literal

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.agreement import measure_agreement
from qface_toolkit.scoring.embeddings import Floats
from qface_toolkit.scoring.parity import judge

PROMISE_KEPT = 0.002
"""How much lower a mean cosine to the float model may be before somebody should mind."""

Verdict = Literal["exact", "agrees", "differs", "cannot run", "damaged", "unknown"]


@dataclass(frozen=True)
class FileVerdict:
    """What became of one file, and why if it was not run or not accepted.

    `verdict` is "exact" (to the bit), "agrees" (but for rounding), "differs", "cannot run", "damaged" (not what the
    manifest says) or "unknown" (nothing says what to expect).
    `cosine_min` is the lowest cosine to the expected embeddings, `float_cosine_mean` the mean one to the float model.
    """

    name: str
    verdict: Verdict
    cosine_min: float | None = None
    float_cosine_mean: float | None = None
    reason: str | None = None

    @property
    def ran(self) -> bool:
        """Tell whether the file gave embeddings."""
        return self.verdict in ("exact", "agrees", "differs")


@dataclass(frozen=True)
class Verification:
    """The verdicts of a result's files on `images` golden images."""

    files: tuple[FileVerdict, ...]
    images: int

    @property
    def trustworthy(self) -> bool:
        """Tell whether something runs here, all of it as expected, and nothing is damaged."""
        bad = [file for file in self.files if file.verdict in ("differs", "damaged")]
        return not bad and any(file.ran for file in self.files)


def judge_file(
    name: str, expected: Floats, float_embeddings: Floats, got: Floats, *, followed: bool = True
) -> FileVerdict:
    """Return the verdict on the embeddings [N, D] that a file gave.

    Of a runtime whose arithmetic is not `followed` to the bit, embeddings agree that are as close to the float model's
    as was promised.
    """
    try:
        verdict = judge(expected, got)
        lowest = measure_agreement(expected, got).cosine_min
        to_float = measure_agreement(float_embeddings, got).cosine_mean
        promised = measure_agreement(float_embeddings, expected).cosine_mean
    except MeasurementError as error:
        return FileVerdict(name, "differs", reason=error.what)
    if verdict == "differs" and not followed and to_float >= promised - PROMISE_KEPT:
        verdict = "agrees"
    reason = _difference(promised, to_float) if verdict == "differs" else None
    return FileVerdict(name, verdict, lowest, to_float, reason)


def _difference(promised: float, to_float: float) -> str:
    if to_float < promised - PROMISE_KEPT:
        return f"it is further from the float model than promised: {to_float:.4f} instead of {promised:.4f}"
    return (
        f"it computes in another way than was simulated; as close to the float model as promised ({promised:.4f}), but "
        "its embeddings should not be compared with those made elsewhere"
    )
