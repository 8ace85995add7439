"""What follows to the bit: the values of a program that no engine may make otherwise, given those before them.

A float depends on the order in which sums are taken, and on how an engine computes a function. Where it is rounded to
codes, a few of these may be others elsewhere.
"""

from collections.abc import Collection, Mapping

import torch

from qface_toolkit.canonical.islands import Move
from qface_toolkit.integer import program as ops
from qface_toolkit.integer.arithmetic import Steps
from qface_toolkit.integer.real import TABLES
from qface_toolkit.quantize.scheme import ACTIVATION_MAX, Grid

_BY_ONE_ROUNDING = frozenset({"scaled", "plus", "times"})
"""Arithmetic on numbers one by one, which every processor does alike."""

_NEAR_THE_MIDDLE = 1e-4
"""Of a step: how far from the middle between two codes a function's value must lie to be rounded alike by all engines.

Of a million values, over all kinds of grids, one was rounded otherwise by ONNX Runtime, on x86 and on ARM.
"""


def inexact_values(program: ops.Program, known: Collection[str] = ()) -> frozenset[str]:
    """Return the values that an engine may make otherwise, even though the `known` ones are what they should be."""
    if program.target.rounds_kernels:
        return frozenset(one.output for one in program.operations)
    found, images, grids = set[str](), set[str](), program.grids
    for one in program.operations:
        if _is_image(one, images):
            images.add(one.output)
        elif _is_rounded(one, grids) or any(source in found and source not in known for source in one.sources):
            found.add(one.output)
    return frozenset(found)


def _is_image(one: ops.Operation, images: Collection[str]) -> bool:
    """Tell whether an operation gives the image, or changes it as the network would have it prepared."""
    changed = isinstance(one, ops.Float) and one.name in _BY_ONE_ROUNDING and set(one.sources) <= set(images)
    return isinstance(one, ops.Image) or changed


def _is_rounded(one: ops.Operation, grids: Mapping[str, Grid]) -> bool:
    """Tell whether an operation computes in float what engines may round otherwise."""
    if isinstance(one, ops.Table):
        return one.grid is None or _is_near_the_middle(one.function, Steps.of(grids[one.source]), Steps.of(one.grid))
    if isinstance(one, ops.Float):
        return not isinstance(one.module, Move)
    return isinstance(one, ops.Normalize)


def _is_near_the_middle(function: str, source: Steps, grid: Steps) -> bool:
    """Tell whether some code's value lies so that one engine may round it up and another down.

    At zero these functions give a half, everywhere.
    """
    values = source.restored(torch.arange(ACTIVATION_MAX + 1.0))
    steps = TABLES[function](values[values != 0]) / grid.scale
    return bool(((steps - steps.floor() - 0.5).abs() < _NEAR_THE_MIDDLE).any())
