"""The parity ledger as figures: who agrees with whom, what each tensor loses, and which codes are not as simulated."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator

from qface_toolkit.report.figures import Block, Cosine, Count
from qface_toolkit.scoring.parity import CodeDifference, Pair, TensorAgreement

SIMULATED = " simulated"
"""Behind the name of a file: what its ranges say that it computes."""


class PairFigures(Block):
    """How close the embeddings of two members are; `exact` says that they are equal to the bit."""

    first: str
    second: str
    cosine_mean: Cosine
    cosine_min: Cosine
    exact: bool


class TensorFigures(Block):
    """How close a simulated tensor is to the float one.

    `drop` is how much lower the cosine is than the lowest among the tensors it is made from; `snr_db` is the ratio of
    signal to noise, absent where there is none.
    """

    tensor: str
    cosine: Cosine
    snr_db: float | None
    drop: Annotated[float, Field(ge=0, le=2)]


class LayerFigures(Block):
    """The float network, with the weights as compressed, against one simulation of it, in order of execution."""

    simulation: str
    images: Annotated[int, Field(gt=0)]
    tensors: tuple[TensorFigures, ...]


class DifferingTensor(Block):
    """A tensor with codes that are not as simulated: how many of them, and by how many steps at most."""

    tensor: str
    codes: Annotated[int, Field(gt=0)]
    differing: Annotated[int, Field(gt=0)]
    largest: Annotated[int, Field(gt=0, le=255)]


class CodeFigures(Block):
    """What a runtime computes inside one file against the file's simulation: so many tensors, code by code.

    `differing` holds those that are not equal, in order of execution. Where the codes cannot be had, `not_compared`
    says why.
    """

    artifact: str
    images: Count
    tensors: Count
    differing: tuple[DifferingTensor, ...] = ()
    not_compared: str | None = None

    @model_validator(mode="after")
    def _compared_or_reason(self) -> "CodeFigures":
        if (self.tensors == 0) == (self.not_compared is None):
            raise ValueError("either tensors or not_compared must be there")
        return self


class ParityBlock(Block):
    """The ledger: members, their embeddings' cosines each with each on `images` images, and what lies inside."""

    images: Annotated[int, Field(gt=0)]
    members: tuple[str, ...]
    pairs: tuple[PairFigures, ...]
    layers: LayerFigures | None = None
    codes: tuple[CodeFigures, ...] = ()

    @model_validator(mode="after")
    def _every_pair_once(self) -> "ParityBlock":
        wanted = {(a, b) for place, a in enumerate(self.members) for b in self.members[place + 1 :]}
        if {(pair.first, pair.second) for pair in self.pairs} != wanted or len(self.pairs) != len(wanted):
            raise ValueError("the pairs are not those of the members")
        return self


def pair_figures(pairs: Sequence[Pair]) -> tuple[PairFigures, ...]:
    """Return what was measured of pairs."""
    return tuple(PairFigures(**vars(pair)) for pair in pairs)


def layer_figures(simulation: str, images: int, tensors: Sequence[TensorAgreement]) -> LayerFigures:
    """Return what was measured of a simulation's tensors."""
    return LayerFigures(
        simulation=simulation, images=images, tensors=tuple(TensorFigures(**vars(found)) for found in tensors)
    )


def code_figures(artifact: str, images: int, tensors: Sequence[CodeDifference]) -> CodeFigures:
    """Return what was measured of a file's codes."""
    differing = tuple(DifferingTensor(**vars(found)) for found in tensors if found.differing)
    return CodeFigures(artifact=artifact, images=images, tensors=len(tensors), differing=differing)
