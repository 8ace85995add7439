"""False accept rates: which are reported, under what names, and which impostor a threshold for one stands at."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FARS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def far_key(far: float) -> str:
    """Return the key of a false accept rate in a report: "1e-3" for 0.001."""
    digits, exponent = f"{far:e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def ranks_of(far: float, impostors: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return floor(FAR x impostors): how many impostors a threshold lets in, or 0 where there are too few to say."""
    # A product such as 0.001 x 3000 may fall just below the whole number that is meant.
    return np.asarray(np.floor(far * np.asarray(impostors) + 1e-9))


def rank_of(far: float, impostors: float) -> int:
    """Return floor(FAR x impostors) for one number of impostors."""
    return int(ranks_of(far, impostors))


def supported(fars: Sequence[float], impostors: int) -> tuple[float, ...]:
    """Return the false accept rates of which so many impostor pairs make at least one pair."""
    return tuple(far for far in fars if rank_of(far, impostors))
