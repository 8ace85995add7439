"""Embeddings as every figure takes them: rows of length one, and a number that says whose each is."""

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError

Floats = npt.NDArray[np.floating]
Scores = npt.NDArray[np.float64]
Owners = npt.NDArray[np.intp]


def unit_rows(embeddings: Floats) -> Scores:
    """Return the embeddings [N, D] scaled to length one.

    Raises:
        MeasurementError: if they are no table, or one is not finite or has no length.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2 or not rows.shape[1]:
        raise MeasurementError(
            f"embeddings have the shape {list(rows.shape)}, where one row for each image is needed",
            where="the model's output",
            fix="give a model whose output is [images, size of the embedding]",
        )
    lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if bad.size:
        raise MeasurementError(
            f"{bad.size} of {len(rows)} embeddings are zero or not finite",
            where=f"row {bad[0]}",
            fix="look at the model: it overflows or its weights are damaged",
        )
    units: Scores = rows / lengths
    return units


def check_owners(owners: npt.ArrayLike, rows: int) -> Owners:
    """Return the owners as whole numbers [rows].

    Raises:
        MeasurementError: if they are not one whole number from 0 for each row.
    """
    marks = np.asarray(owners)
    if marks.shape != (rows,) or (rows and (marks.dtype.kind not in "iu" or marks.min() < 0)):
        what = f"{rows} embeddings came with owners of shape {list(marks.shape)} and type {marks.dtype}"
        raise MeasurementError(what, where="owners", fix="give one whole number from 0 for each embedding")
    return marks.astype(np.intp)
