"""The parity ledger in words: two small tables, a verdict, and one line for the terminal."""

from collections.abc import Mapping

from qface_toolkit.report._ledger import SIMULATED, CodeFigures, LayerFigures, PairFigures, ParityBlock, TensorFigures
from qface_toolkit.report.figures import NOTHING, clean, fine_cosine

WORST_SHOWN = 5
SIMULATION = "simulation.safetensors"
"""The file that is itself what others are compared with."""
LONGEST_NAME = 16
TWINS = ("int8.x86.onnx", "int8.arm.onnx")


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
    share = f"{first.differing} of {first.codes} codes, by {first.largest} at most"
    after = f"; {more} more tensors differ" if more else ""
    return f"{name} differs from its simulation, first in {clean(first.tensor)} ({share}){after}."


def _twins_said(block: ParityBlock) -> list[str]:
    found = [pair for pair in block.pairs if {pair.first, pair.second} == set(TWINS)]
    return [f"The x86 and the ARM file give {_apart(pair)}." for pair in found]


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
        f"{clean(one.artifact)} differs from layer {clean(one.differing[0].tensor, 30)} on" for one in differing[:1]
    ]
    worst = _worst(block)
    parts += (
        [f"the layer that loses most is {clean(worst.tensor, 30)} ({worst.drop:.4f} of its cosine)"] if worst else []
    )
    return not differing, "; ".join(parts)
