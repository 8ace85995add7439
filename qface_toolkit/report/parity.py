"""The parity ledger: who agrees with whom, what each tensor loses, which codes are not as simulated; and its words."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

from pydantic import Field, model_validator

from qface_toolkit.report import plots
from qface_toolkit.report.figures import NOTHING, Block, Cosine, Count, clean, fine_cosine
from qface_toolkit.report.page import Plot, Section, Table
from qface_toolkit.scoring.parity import CodeDifference, Pair, TensorAgreement

SIMULATED = " simulated"
"""Behind the name of a file: what its ranges say that it computes."""
SIMULATION = "simulation.safetensors"
"""The file that is itself what others are compared with."""
X86_FILE, ARM_FILE = "int8.x86.onnx", "int8.arm.onnx"
WORST_SHOWN = 5
LONGEST_NAME = 16


def at_home_name(file: str, machine: str | None) -> str:
    """Return the name of a member: what a file that ran here computes on the kind of processor it is made for."""
    return f"{file} on {machine}"


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


def short_name(member: str) -> str:
    """Return a member's name as a table with many columns can hold it."""
    return clean(member.removeprefix("int8.").replace(SIMULATED, " sim"), LONGEST_NAME)


def matrix(block: ParityBlock) -> list[list[str]]:
    """Return a table, headings first: mean cosines below the diagonal, lowest ones above it."""
    pairs = {(pair.first, pair.second): pair for pair in block.pairs}
    rows = [["", *map(short_name, block.members)]]
    for member in block.members:
        cells = [_cell(pairs, member, other) for other in block.members]
        rows.append([short_name(member), *cells])
    return rows


def _cell(pairs: Mapping[tuple[str, str], PairFigures], row: str, column: str) -> str:
    if row == column:
        return NOTHING
    if (column, row) in pairs:
        return fine_cosine(pairs[column, row].cosine_mean, exact=pairs[column, row].exact)
    return fine_cosine(pairs[row, column].cosine_min, exact=pairs[row, column].exact)


def largest_drops(layers: LayerFigures) -> list[list[str]]:
    """Return a table, headings first, of the tensors that lose most, in order of execution."""
    worst = sorted(layers.tensors, key=lambda found: -found.drop)[:WORST_SHOWN]
    rows = [
        [clean(found.tensor), fine_cosine(found.cosine), f"{found.drop:.5f}", _decibels(found.snr_db)]
        for found in layers.tensors
        if found in worst and found.drop > 0
    ]
    return [["tensor", "cosine to float", "drop", "signal to noise"], *rows]


def _decibels(snr_db: float | None) -> str:
    return NOTHING if snr_db is None else f"{snr_db:.1f} dB"


def parity_said(block: ParityBlock) -> str:
    """Return the verdict: whether files compute what was simulated, whether twins agree, and where most is lost."""
    return " ".join([*_exact_said(block), *map(_codes_said, _others(block)), *_twins_said(block), *_drop_said(block)])


def _others(block: ParityBlock) -> list[CodeFigures]:
    return [one for one in block.codes if one.not_compared is not None or one.differing]


def _exact_said(block: ParityBlock) -> list[str]:
    exact = [one for one in block.codes if one not in _others(block)]
    names = ", ".join(f"{clean(one.artifact)} ({one.tensors} tensors)" for one in exact)
    each = "each computes" if len(exact) > 1 else "computes"
    return [f"{names} {each} what was simulated, code by code, on {exact[0].images} images."] if exact else []


def _codes_said(codes: CodeFigures) -> str:
    name = clean(codes.artifact)
    if codes.not_compared is not None:
        return f"The codes inside {name} were not compared: {clean(codes.not_compared)}."
    first, more = codes.differing[0], len(codes.differing) - 1
    after = f"; {more} more tensors differ" if more else ""
    return f"{name} differs from its simulation, first in {clean(first.tensor)} ({_share(first)}){after}."


def _share(one: DifferingTensor) -> str:
    return f"{one.differing} of {one.codes} codes, by {one.largest} at most"


def _twins_said(block: ParityBlock) -> list[str]:
    at_home = ({X86_FILE, at_home_name(ARM_FILE, "arm")}, {at_home_name(X86_FILE, "x86"), ARM_FILE})
    said = [
        f"{where} the x86 and the ARM file give {_apart(pair)}."
        for where, members in (
            ("Each on the processor that it is made for,", at_home),
            ("Both run here,", ({X86_FILE, ARM_FILE},)),
        )
        for pair in block.pairs
        if {pair.first, pair.second} in members
    ]
    return said[:1]


def _apart(pair: PairFigures) -> str:
    same = "the same embeddings to the bit"
    return same if pair.exact else f"embeddings with a lowest cosine of {fine_cosine(pair.cosine_min)}"


def _drop_said(block: ParityBlock) -> list[str]:
    worst = _worst(block)
    if worst is None:
        return []
    fall = f"the cosine to float falls by {worst.drop:.5f} to {fine_cosine(worst.cosine)}"
    return [f"Quantization loses most in {clean(worst.tensor)}, where {fall}."]


def _worst(block: ParityBlock) -> TensorFigures | None:
    tensors = block.layers.tensors if block.layers else ()
    worst = max(tensors, key=lambda found: found.drop, default=None)
    return worst if worst is not None and worst.drop > 0 else None


def parity_line(block: ParityBlock) -> tuple[bool, str]:
    """Return whether every file that could be looked into computes what was simulated, and the ledger in one line."""
    exact = [one.artifact for one in block.codes if one.not_compared is None and not one.differing]
    differing = [one for one in block.codes if one.differing]
    files = [one for one in block.codes if one.artifact != SIMULATION]
    counted = (
        f"{len(exact)} of {len(files)} files {'computes' if len(files) == 1 else 'compute'} exactly what was simulated"
    )
    parts = [counted if files else "nothing inside the files could be compared with a simulation"]
    parts += [
        f"{clean(one.artifact)} differs from layer {clean(one.differing[0].tensor, 30)} on ({_share(one.differing[0])})"
        for one in differing[:1]
    ]
    worst = _worst(block)
    parts += (
        [f"the layer that loses most is {clean(worst.tensor, 30)} ({worst.drop:.4f} of its cosine)"] if worst else []
    )
    return not differing, "; ".join(parts)


def tensors_section(layers: LayerFigures) -> Section:
    """Return what quantization costs, tensor by tensor."""
    simulation = clean(layers.simulation)
    what = f"Cosine of each tensor to float in the {simulation} simulation"
    tensors = layers.tensors
    shown = ([one.tensor for one in tensors], [one.cosine for one in tensors], [one.drop for one in tensors])
    draw = partial(plots.cosine_picture, *shown)
    plot = Plot("plot-cosines", what, "The table has the largest drops.", draw)
    headings, *rows = largest_drops(layers)
    told = f"{simulation} simulation against the float network, {layers.images} images"
    said = (f"{told}. A drop is what a tensor loses against the worst of those it is made from.",)
    caption = f"Where most is lost, in order of execution; report.json has all {len(tensors)} tensors"
    table = Table(caption, headings, rows)
    return Section("tensors", "Cosine layer by layer", said, (plot, table))


def parity_section(block: ParityBlock) -> Section:
    """Return who agrees with whom, and what lies inside the files."""
    headings, *rows = matrix(block)
    caption = f"Cosines between embeddings of {block.images} held-out drawings: mean below the diagonal, lowest above"
    codes = [_codes_row(one) for one in block.codes]
    named = ("file", "first that differs", "tensors", "images", "that differ")
    compared = [Table("Codes inside the files against their simulation", named, codes, texts=2)] if codes else []
    blocks = (Table(caption, ["member", *headings[1:]], rows), *compared)
    return Section("parity", "Who says the same", (parity_said(block),), blocks)


def _codes_row(one: CodeFigures) -> list[str]:
    if one.not_compared is not None:
        return [clean(one.artifact), f"not compared: {clean(one.not_compared)}", NOTHING, NOTHING, NOTHING]
    first = "none"
    if one.differing:
        found = one.differing[0]
        first = f"{clean(found.tensor)}: {found.differing} of {found.codes} codes, by {found.largest} at most"
    return [clean(one.artifact), first, str(one.tensors), str(one.images), str(len(one.differing))]
