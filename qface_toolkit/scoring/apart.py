"""Whether a model tells people apart at all: what hardly does has nothing to lose, so a small loss proves nothing.

Every protocol's own figure is turned into one error rate, so that one level decides for all of them.
"""

from statistics import NormalDist

MOST_WRONG = 0.2
"""The equal error rate from which on a model counts as not telling people apart.

Guessing has 0.5. If the scores of both kinds of pairs are normal with one spread, an equal error rate of 0.2 leaves a
TAR of 2 % at FAR 1e-4, so that no loss of TAR could be larger than two points. Accuracies of pairs that were published
for this task lie above 0.84 even on the hardest common list (CPLFW), which is an error rate of 0.16.
"""
MOST_WRONG_OF_DRAWINGS = 0.35
"""The same of drawn identities, half way from there to guessing.

A model of real faces was not trained to tell drawings apart: fed as it should be, it may be wrong about a fifth of
their pairs, so that only what is near guessing says that something is wrong with it.
"""
FEW_GENUINE = 30
"""Below so many genuine pairs one standard error of the error rate is seven points or more (at 0.2)."""
_EDGE = 1e-9


def tells_apart(error_rate: float, *, drawn: bool = False) -> bool:
    """Return whether so many wrong decisions, on drawings or on faces, leave something that can be lost."""
    return error_rate < (MOST_WRONG_OF_DRAWINGS if drawn else MOST_WRONG)


def error_rate_of(tar: float, far: float) -> float:
    """Return the equal error rate of the normal scores of one spread that have this TAR at this FAR.

    Guessing, for which both rates are equal, has 0.5.
    """
    normal = NormalDist()
    accepted, let_in = (min(max(rate, _EDGE), 1 - _EDGE) for rate in (tar, far))
    apart = normal.inv_cdf(accepted) - normal.inv_cdf(let_in)
    return normal.cdf(-apart / 2)
