"""Where do a network, its simulation and its files stop saying the same: by embeddings, tensor by tensor, code by code.

Three questions that one cosine at the end cannot answer. Do all members agree, each with each? On which tensor does
quantization lose most? Does a file compute, number by number, what its simulation says?
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qface_toolkit.scoring.agreement import measure_agreement
from qface_toolkit.scoring.embeddings import Floats

Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """How close the embeddings of two members are; `exact` says that they are equal to the bit."""

    first: str
    second: str
    cosine_mean: float
    cosine_min: float
    exact: bool


@dataclass(frozen=True)
class TensorAgreement:
    """How close one tensor is to its reference: the cosine of all its numbers, and the ratio of signal to noise in dB.

    `drop` is how much lower the cosine is than the lowest among the tensors it is made from. `snr_db` is None where
    there is no noise, or no signal.
    """

    tensor: str
    cosine: float
    snr_db: float | None
    drop: float


@dataclass(frozen=True)
class CodeDifference:
    """How many of a tensor's codes are not what they should be, and by how many steps at most."""

    tensor: str
    codes: int
    differing: int
    largest: int


def compare_members(embeddings: Mapping[str, Floats]) -> tuple[Pair, ...]:
    """Compare the embeddings [N, D] of the same images, each member's with each other's, in the order given.

    Raises:
        MeasurementError: if the shapes differ or hold nothing, or an embedding is zero or not finite.
    """
    return tuple(_pair(*two) for two in itertools.combinations(embeddings.items(), 2))


def _pair(first: tuple[str, Floats], second: tuple[str, Floats]) -> Pair:
    found = measure_agreement(first[1], second[1])
    return Pair(first[0], second[0], found.cosine_mean, found.cosine_min, np.array_equal(first[1], second[1]))


def compare_tensors(
    batches: Iterable[tuple[str, Floats, Floats]], sources: Mapping[str, Sequence[str]]
) -> tuple[TensorAgreement, ...]:
    """Compare tensors with their references, given as (name, reference, other); a name may come again with more images.

    `sources` names the tensors that each is made from; the order of the result is that of first appearance.
    """
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for name, reference, other in batches:
        sums[name] = sums.get(name, np.zeros(4)) + _sums(reference.astype(np.float64), other.astype(np.float64))
    cosines = {name: _cosine(*found[:3]) for name, found in sums.items()}
    return tuple(
        TensorAgreement(name, cosines[name], _snr_db(*sums[name][[0, 3]]), _drop(name, cosines, sources))
        for name in sums
    )


def _sums(reference: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the squares of the reference, those of the other, their products and the squares of the difference."""
    # Not by dot products: those would start BLAS's threads for sums that memory alone decides the speed of.
    products = (np.square(reference), np.square(other), reference * other, np.square(reference - other))
    return np.array([product.sum() for product in products])


def _cosine(first: float, second: float, product: float) -> float:
    """Return the cosine; two tensors of zeros agree, and zeros with anything else do not."""
    if first == 0 or second == 0:
        return float(first == second)
    return float(np.clip(product / math.sqrt(first * second), -1, 1))


def _snr_db(signal: float, noise: float) -> float | None:
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None


def _drop(name: str, cosines: Mapping[str, float], sources: Mapping[str, Sequence[str]]) -> float:
    before = [cosines[source] for source in sources.get(name, ()) if source in cosines]
    return max(0.0, min(before, default=1.0) - cosines[name])


def compare_codes(expected: Mapping[str, Codes], got: Mapping[str, Codes]) -> tuple[CodeDifference, ...]:
    """Compare the codes of every tensor that both hold, in the order of what is expected."""
    return tuple(_difference(name, codes, got[name]) for name, codes in expected.items() if name in got)


def _difference(name: str, expected: Codes, got: Codes) -> CodeDifference:
    if expected.shape != got.shape:
        return CodeDifference(name, expected.size, expected.size, int(np.iinfo(np.uint8).max))
    apart: npt.NDArray[Any] = np.abs(expected.astype(np.int16) - got.astype(np.int16))
    return CodeDifference(name, expected.size, int(np.count_nonzero(apart)), int(apart.max(initial=0)))
