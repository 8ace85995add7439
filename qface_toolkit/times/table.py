"""How long ONNX Runtime's operators take on one thread: measured rows, and what lies between them.

The table is part of the package, so that the same model gives the same files everywhere; it was measured on one
processor (see benchmarks/README.md), and another's times are others. A convolution's time is a sum of costs fitted to
the rows of its kind, times what the rows nearest to it took more or less than their own fit. A shape that was measured
has its own time.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_args

from qface_toolkit.errors import ArtifactError
from qface_toolkit.times.shapes import Arithmetic, ConvShape

TABLE = Path(__file__).with_name("x86.json")
"""The package's own times."""
BLOCK = 16
"""Channels that the runtime's fast float kernels compute at a time: others are padded to so many, in time as well."""
WORD = 4
"""Input channels that integer kernels multiply at a time."""
MOST_SIZE = 1 << 20
MOST_ROWS = 20_000
REACH = 1.0
"""Octaves of sizes within which a row says much about another shape's."""
TRUST = 0.15
"""Rows nearby that the fit itself is worth."""
FEWEST = 1.0
"""Microseconds that no operator takes less of."""

Row = tuple[Arithmetic, ConvShape]


def kind_of(arithmetic: Arithmetic, shape: ConvShape) -> str:
    """Return the kind of kernel that runs a convolution: those of one kind share a fit."""
    if shape.depthwise:
        named = "pointwise depthwise" if shape.area == 1 else "depthwise"
    elif shape.groups > 1:
        named = "groups"
    elif shape.pixels == 1 and shape.area == 1:
        named = "linear"
    else:
        named = "pointwise" if shape.area == 1 else "dense"
    channels = (shape.inputs, shape.outputs) if shape.depthwise else _of_a_group(shape)
    in_blocks = all(count % BLOCK == 0 for count in channels[named == "dense" :])
    return f"{arithmetic} {named}" if in_blocks or named == "linear" else f"{arithmetic} {named}, odd channels"


def _of_a_group(shape: ConvShape) -> tuple[int, int]:
    return shape.inputs // shape.groups, shape.outputs // shape.groups


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


def features(arithmetic: Arithmetic, shape: ConvShape) -> tuple[float, ...]:
    """Return what a convolution costs by.

    Itself; millions of products, of copies, of numbers made, read and held, and of rows of groups; thousands of groups.
    """
    if shape.depthwise:
        channels = _up(shape.outputs, BLOCK)
        padded = replace(shape, inputs=channels, outputs=channels, groups=channels)
    else:
        inputs, outputs = _of_a_group(shape)
        padded = replace(shape, inputs=_up(inputs, WORD) * shape.groups, outputs=_up(outputs, BLOCK) * shape.groups)
    copied = shape.area > 1 and not shape.depthwise
    return (
        1.0,
        padded.multiply_adds / 1e6,
        padded.pixels * padded.products * padded.groups / 1e6 if copied else 0.0,
        padded.numbers / 1e6,
        padded.read / 1e6,
        padded.weights / 1e6,
        padded.pixels * padded.groups / 1e6,
        padded.groups / 1e3,
    )


@dataclass(frozen=True)
class TimeTable:
    """Microseconds of operators.

    `rows` are convolutions that were measured, `fits` the costs of `features` by kind, `others` the microseconds of any
    other operator by its name: of itself, and of a million numbers. A whole run takes `share` of its operators' times,
    and `each` for every operator: less than nothing, as the profile that gave these times makes each longer.
    """

    rows: Mapping[Row, float]
    fits: Mapping[str, tuple[float, ...]]
    others: Mapping[str, tuple[float, float]]
    each: float = 0.0
    share: float = 1.0

    def convolution(self, shape: ConvShape, arithmetic: Arithmetic) -> float:
        """Return the time of a convolution: measured, or between those that were."""
        measured = self.rows.get((arithmetic, shape))
        return self.estimate(shape, arithmetic) if measured is None else measured

    def estimate(self, shape: ConvShape, arithmetic: Arithmetic, without: ConvShape | None = None) -> float:
        """Return the time of a convolution by its kind, as if the row of the shape `without` had not been measured."""
        kind, more, weight = kind_of(arithmetic, shape), 0.0, TRUST
        for other, residual in self._residuals.get(kind, ()):
            near = math.exp(-((shape.distance(other) / REACH) ** 2)) if other != without else 0.0
            more, weight = more + near * residual, weight + near
        return max(self.fitted(shape, arithmetic) * math.exp(more / weight), FEWEST)

    def fitted(self, shape: ConvShape, arithmetic: Arithmetic) -> float:
        """Return the sum of a convolution's costs."""
        costs = self.fits[kind_of(arithmetic, shape)]
        found = sum(cost * size for cost, size in zip(costs, features(arithmetic, shape), strict=True))
        return max(found, FEWEST)

    def other(self, operator: str, numbers: float) -> float:
        """Return the time of an operator on so many numbers; of one that was not timed, that of moving them."""
        once, million = self.others.get(operator, self.others["move"])
        return once + million * numbers / 1e6

    def with_rows(self, rows: Mapping[Row, float]) -> "TimeTable":
        """Return the same table with rows that were measured elsewhere in the place of its own."""
        return replace(self, rows={**self.rows, **rows})

    def as_plain(self) -> list[list[Any]]:
        """Return the rows as JSON holds them: the arithmetic, the shape, the microseconds."""
        return [[arithmetic, *astuple(shape), time] for (arithmetic, shape), time in self.rows.items()]

    @cached_property
    def _residuals(self) -> Mapping[str, Sequence[tuple[ConvShape, float]]]:
        """Return for each kind how much longer each row took than its fit says, as a logarithm."""
        found: dict[str, list[tuple[ConvShape, float]]] = {}
        for (arithmetic, shape), time in self.rows.items():
            residual = math.log(time / self.fitted(shape, arithmetic))
            found.setdefault(kind_of(arithmetic, shape), []).append((shape, residual))
        return found


def read_rows(plain: Any) -> dict[Row, float]:  # noqa: ANN401 - whatever JSON holds
    """Return rows from what `TimeTable.as_plain` gave.

    Raises:
        ValueError, TypeError, IndexError: if they are none.
    """
    if not isinstance(plain, list) or len(plain) > MOST_ROWS:
        raise ValueError("it holds no list of rows")
    found: dict[Row, float] = {}
    for arithmetic, *sizes, time in plain:
        if arithmetic not in get_args(Arithmetic) or not 0 < float(time) < 1e9:
            raise ValueError(f"{arithmetic!r} in {time!r} microseconds is no row")
        if len(sizes) != len(fields(ConvShape)):
            raise ValueError(f"{len(sizes)} sizes are no shape")
        shape = ConvShape(*map(_whole, sizes))
        if shape.inputs % shape.groups or shape.outputs % shape.groups:
            raise ValueError(f"{shape.groups} groups do not divide {shape.inputs} and {shape.outputs} channels")
        found[arithmetic, shape] = float(time)
    return found


def _whole(value: Any) -> int:  # noqa: ANN401 - whatever JSON holds
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < MOST_SIZE:
        raise ValueError(f"{value!r} is no size")
    return value


@cache
def read_table(file: Path = TABLE) -> TimeTable:
    """Return the table of a file that benchmarks/operator_times.py wrote.

    Raises:
        ArtifactError: if it holds none.
    """
    try:
        plain = json.loads(file.read_text())
        return TimeTable(
            read_rows(plain["rows"]),
            {str(kind): tuple(map(float, costs)) for kind, costs in plain["fits"].items()},
            {str(name): (float(once), float(million)) for name, (once, million) in plain["others"].items()},
            float(plain["each"]),
            float(plain["share"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"this is no table of times: {error}", where=str(file)) from error
