"""Operations that integer kernels have no form of, as modules of two kinds, each with plain options and constants.

An `Island` computes in float: what reads codes takes them apart first, and whoever works on codes rounds what it makes.
A `Move` only moves numbers, so it works on codes as well as on floats. Axis 0 is the batch; nothing moves or mixes it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor, nn

Axes = tuple[int, ...]


def _layer_norm(x: Tensor, entering: Tensor, scale: Tensor, shift: Tensor, *, axes: Axes, eps: float) -> Tensor:
    """Multiply by `entering` first: whoever wrote a channel larger has it made smaller again here."""
    x = x * entering
    centred = x - x.mean(axes, keepdim=True)
    normed: Tensor = centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + eps) * scale + shift
    return normed


def _unit(x: Tensor, *, axes: Axes, eps: float) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=axes, keepdim=True)
    return x / length.clamp_min(eps)


def _sloped(x: Tensor, slopes: Tensor) -> Tensor:
    return x.clamp_min(0) + slopes * x.clamp_max(0)


def _resized(x: Tensor, *, before: Axes, size: Axes, mode: str, align_corners: bool | None) -> Tensor:
    return F.interpolate(x, size, mode=mode, align_corners=align_corners)


def _padded(x: Tensor, *, sides: Axes, mode: str, value: float) -> Tensor:
    """Pad by two numbers an axis, the last axis first, as torch's own function takes them."""
    return F.pad(x, sides, mode, value) if mode == "constant" else F.pad(x, sides, mode)


ISLANDS: Mapping[str, Callable[..., Tensor]] = {
    "abs": torch.abs,
    "sqrt": torch.sqrt,
    "reciprocal": torch.reciprocal,
    "exp": torch.exp,
    "log": torch.log,
    "erf": torch.erf,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "gelu": F.gelu,
    "elu": F.elu,
    "power": lambda x, *, exponent: torch.pow(x, exponent),
    "clip": lambda x, *, low, high: torch.clamp(x, low, high),
    "logistic": torch.sigmoid,
    "hard_logistic": F.hardsigmoid,
    "sloped": _sloped,
    "scaled": lambda x, scale, shift: x * scale + shift,
    "softmax": lambda x, *, axis: torch.softmax(x, axis),
    "layer_norm": _layer_norm,
    "unit": _unit,
    "length": lambda x, *, axes, keepdims: torch.linalg.vector_norm(x, dim=axes, keepdim=keepdims),
    "mean": lambda x, *, axes, keepdims: torch.mean(x, axes, keepdims),
    "sum": lambda x, *, axes, keepdims: torch.sum(x, axes, keepdims),
    "largest": lambda x, *, axes, keepdims: torch.amax(x, axes, keepdims),
    "matmul": torch.matmul,
    "plus": torch.add,
    "minus": torch.sub,
    "times": torch.mul,
    "quotient": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "resized": _resized,
    "padded": _padded,
}
"""Kind -> what it makes of its tensors, then its constants, and its options."""

MOVES: Mapping[str, Callable[..., Tensor]] = {
    "permute": lambda x, *, order: x.permute(order),
    "reshape": lambda x, *, shape: x.reshape(-1, *shape),
    "slice": lambda x, *, axis, start, stop, step: x[(slice(None),) * axis + (slice(start, stop, step),)],
    "pick": lambda x, *, axis, indices: torch.index_select(x, axis, torch.tensor(indices, device=x.device)),
    "join": lambda *x, axis: torch.cat(x, axis),
    "border": lambda x, *, sides: F.pad(x, sides),
    "nearest": lambda x, *, before, size: F.interpolate(x, size, mode="nearest"),
}
"""The same for moves.

A border is one of zeros, with two numbers for every axis but the batch. `before` is the size that something is resized
from, for runtimes that want to be told by how much.
"""


class _Operation(nn.Module):
    """An operation of one of the tables above.

    `shapes` are those of its constants, which are buffers: they are not trained.
    """

    functions: Mapping[str, Callable[..., Tensor]]

    def __init__(self, kind: str, options: Mapping[str, Any], shapes: Sequence[Sequence[int]] = ()) -> None:
        if kind not in self.functions:
            raise ValueError(f"there is no operation called {kind!r}")
        super().__init__()
        self.kind, self.options = kind, {name: _settled(value) for name, value in options.items()}
        self.shapes = tuple(tuple(shape) for shape in shapes)
        for number, shape in enumerate(self.shapes):
            self.register_buffer(f"constant_{number}", torch.empty(shape))

    @classmethod
    def of(cls, kind: str, *constants: Tensor, **options: Any) -> Self:  # noqa: ANN401 - plain values
        """Return an operation with these constants, whose axes are the tensor's own."""
        made = cls(kind, options, [constant.shape for constant in constants])
        for number, constant in enumerate(constants):
            getattr(made, f"constant_{number}").copy_(constant.detach())
        return made

    @property
    def constants(self) -> list[Tensor]:
        """Return the constants, in order."""
        return [cast(Tensor, getattr(self, f"constant_{number}")) for number in range(len(self.shapes))]

    def forward(self, *tensors: Tensor) -> Tensor:
        """Return what the operation makes of its tensors."""
        return self.functions[self.kind](*tensors, *self.constants, **self.options)

    def extra_repr(self) -> str:
        """Return the kind and the options."""
        return ", ".join([self.kind, *(f"{name}={value}" for name, value in self.options.items())])


class Island(_Operation):
    """An operation that is computed in float everywhere."""

    functions = ISLANDS

    @classmethod
    def layer_norm(cls, scale: Tensor, shift: Tensor, axes: Axes, eps: float) -> Self:
        """Return the normalisation over these axes, scaled and shifted behind."""
        return cls.of("layer_norm", torch.ones_like(scale), scale, shift, axes=axes, eps=eps)

    @property
    def scales_channels(self) -> bool:
        """Whether it scales each channel by a constant first, and scales and shifts each by others last."""
        if self.kind != "layer_norm":
            return False
        return all(shape[1:] == (shape[1],) + (1,) * (len(shape) - 2) and shape[1] > 1 for shape in self.shapes)

    @property
    def shifts_channels(self) -> bool:
        """Whether it adds constants, of which every channel has its own."""
        return self.kind == "plus" and len(self.shapes) == 1 and len(self.shapes[0]) > 2 and self.shapes[0][1] > 1


class Move(_Operation):
    """An operation that moves numbers: codes where its input is codes, floats where it is float."""

    functions = MOVES


def _settled(value: object) -> object:
    """Return an option as it came from JSON or from torch: sequences of numbers as tuples."""
    return tuple(value) if isinstance(value, list | tuple) else value
