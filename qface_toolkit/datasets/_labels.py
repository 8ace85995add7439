"""What every kind of training data holds of its labels: whole numbers from 0, none left out, two people at least."""

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import CalibrationError

Labels = npt.NDArray[np.int32]

MOST_IDENTITIES = 1 << 30
"""More than any label may say, so that labels fit into 32 bits."""

_NUMBER = "number the identities 0, 1, 2, ... without leaving one out"


def count_identities(labels: npt.NDArray[np.integer], where: str) -> int:
    """Return how many identities labels [images], none below 0, speak of.

    Raises:
        CalibrationError: if a number below the largest is not among them, or there is one identity only.
    """
    count = len(labels)
    # One place more than there are labels, so that one of the first count + 1 is always free.
    present = np.zeros(count + 2, bool)
    present[np.minimum(labels, count + 1)] = True
    first_free, people = int(np.argmin(present)), int(labels.max()) + 1
    if first_free < people:
        what = f"labels with a hole: identity {first_free} has no image, and the largest label is {people - 1}"
        raise CalibrationError(what, where=where, fix=_NUMBER)
    if people == 1:
        raise one_identity_only(where)
    return people


def one_identity_only(where: str, name: str = "0") -> CalibrationError:
    """Return the error for labels that tell no person from another."""
    what = f"one identity only, {name!r}, so there are no others to tell it from"
    fix = "give two identities at least, or the crops without labels: a folder of them"
    return CalibrationError(what, where=where, fix=fix)


def read_only(labels: npt.NDArray[np.integer]) -> Labels:
    """Return labels as int32 that nothing can change, since all users share them."""
    kept = labels.astype(np.int32, copy=False)
    kept.flags.writeable = False
    return kept
