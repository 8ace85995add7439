"""IJB-B and IJB-C 1:1: templates of several images, made while the features arrive, and TAR by that protocol's rules.

An image's feature goes into its template's sum as soon as it is there, so that of 470,000 images no more than the
templates are ever held. The steps and their order are those of insightface's IJB evaluation, which papers report.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.blocks import Progress
from qface_toolkit.scoring.embeddings import Floats

_PAIRS_AT_ONCE = 20_000

Norm = Literal["keep", "unit"]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Templates:
    """Templates by number: `ids` [T] ascend, `units` [T, D] are their vectors, of length one."""

    ids: Numbers
    units: npt.NDArray[np.float64]


class TemplateSums:
    """The sums of templates, fed with the features of the metadata's lines in their order, some at a time.

    Each medium of a template (a photo, or the frames of one video) counts once, as the mean of its features; a template
    is their sum. With norm "keep", longer features count more within both; with "unit" all have length one. Detector
    scores, one for each line, weigh the features on top of that.
    """

    def __init__(
        self,
        template_ids: npt.ArrayLike,
        media_ids: npt.ArrayLike,
        *,
        norm: Norm = "keep",
        detector_scores: npt.ArrayLike | None = None,
    ) -> None:
        """Prepare for the features of these lines: whole numbers [lines] each, and scores [lines].

        Raises:
            MeasurementError: if there are no lines, or not one number of each kind for each.
        """
        templates, media = _column(template_ids, "template"), _column(media_ids, "media")
        if len(templates) != len(media) or not len(templates):
            what = f"{len(templates)} template numbers came with {len(media)} media numbers"
            raise MeasurementError(what, fix="give one of each for every line of the list of images")
        self.ids, self._template = np.unique(templates, return_inverse=True)
        _, medium, counts = np.unique(np.stack([templates, media]), axis=1, return_inverse=True, return_counts=True)
        self._weights = 1 / counts[medium.ravel()]
        if detector_scores is not None:
            self._weights = self._weights * _scores(detector_scores, len(templates))
        self.norm, self.done = norm, 0
        self._sums: npt.NDArray[np.float64] | None = None

    @property
    def lines(self) -> int:
        """Return how many features there are to come, all in all."""
        return len(self._template)

    def add(self, features: Floats) -> None:
        """Add the features [n, D] of the next n lines.

        Raises:
            MeasurementError: if they are no table, of another size than before, more than lines are left, or not
                finite; with norm "unit", if one is zero.
        """
        rows = self._checked(np.asarray(features, dtype=np.float64))
        here = slice(self.done, self.done + len(rows))
        if self.norm == "unit":
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        if self._sums is None:
            self._sums = np.zeros((len(self.ids), rows.shape[1]))
        np.add.at(self._sums, self._template[here], rows * self._weights[here, None])
        self.done += len(rows)

    def finish(self) -> Templates:
        """Return the templates.

        Raises:
            MeasurementError: if lines are left, or a template's features sum up to zero.
        """
        if self._sums is None or self.done < self.lines:
            what = f"{self.lines - self.done} of {self.lines} lines have no feature"
            raise MeasurementError(what, where=f"line {self.done + 1}", fix="embed every image of the list")
        lengths = np.linalg.norm(self._sums, axis=1, keepdims=True)
        bad = np.flatnonzero(lengths[:, 0] == 0)
        if bad.size:
            what = f"{bad.size} of {len(self.ids)} templates have no direction: their features sum up to zero"
            raise MeasurementError(what, where=f"template {self.ids[bad[0]]}", fix="look at the model and its images")
        return Templates(self.ids, self._sums / lengths)

    def _checked(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if rows.ndim != 2 or (self._sums is not None and rows.shape[1] != self._sums.shape[1]):
            what = f"features have the shape {list(rows.shape)}, where rows of one size are needed, one for each image"
            raise MeasurementError(what, where=f"line {self.done + 1}", fix="give a model with one vector an image")
        if self.done + len(rows) > self.lines:
            what = f"{self.done + len(rows)} features came for {self.lines} lines"
            raise MeasurementError(what, fix="embed the images of the list alone")
        lengths = np.linalg.norm(rows, axis=1)
        bad = np.flatnonzero(~np.isfinite(lengths) | ((lengths == 0) & (self.norm == "unit")))
        if bad.size:
            raise MeasurementError(
                f"{bad.size} of {len(rows)} features are zero or not finite",
                where=f"line {self.done + bad[0] + 1} of the list of images",
                fix="look at the model: it overflows or its weights are damaged",
            )
        return rows


def score_templates(
    templates: Templates, first: npt.ArrayLike, second: npt.ArrayLike, progress: Progress | None = None
) -> npt.NDArray[np.float32]:
    """Return the cosines of pairs of templates, of their numbers [pairs]; `progress` is told pairs done, of how many.

    Raises:
        MeasurementError: if a pair names a template that is not there.
    """
    rows = [_rows(templates.ids, _column(side, "template")) for side in (first, second)]
    total = len(rows[0])
    if total != len(rows[1]):
        raise MeasurementError(f"{total} first templates came with {len(rows[1])} second ones", fix="give pairs")
    found = np.empty(total, dtype=np.float32)
    for at in range(0, total, _PAIRS_AT_ONCE):
        here = slice(at, at + _PAIRS_AT_ONCE)
        found[here] = np.einsum("ij,ij->i", templates.units[rows[0][here]], templates.units[rows[1][here]])
        if progress is not None:
            progress(min(at + _PAIRS_AT_ONCE, total), total)
    return found


def _column(values: npt.ArrayLike, kind: str) -> Numbers:
    numbers = np.asarray(values)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        what = f"{kind} numbers are of type {numbers.dtype} and shape {list(numbers.shape)}"
        raise MeasurementError(what, fix="give one whole number for each line")
    return numbers.astype(np.int64)


def _scores(values: npt.ArrayLike, lines: int) -> npt.NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.shape != (lines,) or not np.isfinite(scores).all():
        what = f"detector scores of shape {list(scores.shape)} came for {lines} lines, or one is not finite"
        raise MeasurementError(what, fix="give one number for each line of the list of images")
    return scores


def _rows(ids: Numbers, wanted: Numbers) -> npt.NDArray[np.intp]:
    rows = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    missing = np.flatnonzero(ids[rows] != wanted)
    if missing.size:
        what = f"{missing.size} pairs name a template that has no images"
        where = f"pair {missing[0] + 1}: template {wanted[missing[0]]}"
        raise MeasurementError(what, where=where, fix="give the lists of one protocol")
    return rows
