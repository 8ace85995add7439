"""What integers alone make: the values of a program that no engine may make otherwise, given those before them.

A float depends on the order in which sums are taken, and on how an engine computes a function. Where it is rounded to
codes, a few of these may be others elsewhere.
"""

from collections.abc import Collection

from qface_toolkit.canonical.islands import Move
from qface_toolkit.integer import program as ops

_BY_ONE_ROUNDING = frozenset({"scaled", "plus", "times"})
"""Arithmetic on numbers one by one, which every processor does alike."""


def inexact_values(program: ops.Program, known: Collection[str] = ()) -> frozenset[str]:
    """Return the values that an engine may make otherwise, even though the `known` ones are what they should be."""
    if program.target.rounds_kernels:
        return frozenset(one.output for one in program.operations)
    found, images = set[str](), set[str]()
    for one in program.operations:
        if _is_image(one, images):
            images.add(one.output)
        elif _makes_floats(one) or any(source in found and source not in known for source in one.sources):
            found.add(one.output)
    return frozenset(found)


def _is_image(one: ops.Operation, images: Collection[str]) -> bool:
    """Tell whether an operation gives the image, or changes it as the network would have it prepared."""
    changed = isinstance(one, ops.Float) and one.name in _BY_ONE_ROUNDING and set(one.sources) <= set(images)
    return isinstance(one, ops.Image) or changed


def _makes_floats(one: ops.Operation) -> bool:
    """Tell whether an operation computes in float; a table of codes holds what each engine's function gives."""
    if isinstance(one, ops.Float):
        return not isinstance(one.module, Move)
    return isinstance(one, ops.Normalize | ops.Table)
