"""Interpret a program in an engine's arithmetic: what an artifact must give, not merely come close to.

Fake-quantization computes with sums of rounded floats. Such a sum can differ from the integer one in its last bit, that
bit can decide how the next tensor rounds, and over fifty layers a few such bits become a different rounding noise. For
training it does not matter which; to prove that a file computes what its ranges say, it does. Here codes are whole
numbers held in floats wide enough for a layer's largest sum, and every rescaling follows the engine (see arithmetic).
An engine that computes in float between taking codes apart and rounding has no sums to follow: see real.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by

from qface_toolkit.integer import program as ops
from qface_toolkit.integer.arithmetic import ARITHMETIC, Steps, Sums, Windows
from qface_toolkit.integer.making import program_of
from qface_toolkit.integer.real import TABLES, average_pool, compute, convolved, max_pool, real
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.image_input import image_inputs
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.scheme import ACTIVATION_MAX
from qface_toolkit.quantize.target import Target

Tensor = torch.Tensor
Floats = npt.NDArray[np.float32]
_EXACT_IN_FLOAT32 = 2**24


MOST_NUMBERS = 70_000_000
"""Numbers of all tensors that a batch holds, in four bytes each."""


def embed_as_integers(model: QuantizedModel, target: Target, inputs: Floats, batch_size: int = 8) -> Floats:
    """Return what a target computes, float32 [N, embedding], of preprocessed images [N, C, height, width]."""
    return Simulator(program_of(model, target)).embed(inputs, batch_size)


class Simulator:
    """Runs a program on preprocessed images, float32 [N, C, height, width]."""

    def __init__(self, program: ops.Program) -> None:
        self.program = program
        self.steps = {name: Steps.of(grid) for name, grid in program.grids.items()}
        self._engine = ARITHMETIC[program.target.arithmetic]
        layers = () if program.target.rounds_kernels else program.operations
        self._layers = {one.output: _Layer(one, self.steps) for one in layers if isinstance(one, _LAYERS)}

    def embed(self, inputs: Floats, batch_size: int = 8) -> Floats:
        """Return the embeddings, float32 [N, embedding]."""
        last = self.program.embedding
        return np.concatenate([self.restored(last, values[last]).numpy() for values in self.runs(inputs, batch_size)])

    def codes(self, inputs: Floats, batch_size: int = 4) -> Iterator[dict[str, npt.NDArray[np.uint8]]]:
        """Yield for each batch of images the codes of every tensor that is held as codes, in order of execution."""
        for values in self.runs(inputs, batch_size):
            yield {name: values[name].to(torch.uint8).numpy() for name in self.program.tensors if name in values}

    def restored(self, value: str, held: Tensor) -> Tensor:
        """Return the float values behind what is held of a value."""
        return self.steps[value].restored(held) if value in self.steps else held

    def runs(self, inputs: Floats, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """Yield for each batch of images what is held of every value: codes, or floats where there is no grid.

        Batches of large networks are smaller, as every value of a batch is held at once.
        """
        numbers = sum(math.prod(shape[1:]) for shape in self.program.shapes.values())
        batch_size = max(1, min(batch_size, MOST_NUMBERS // numbers))
        for start in range(0, len(inputs), batch_size):
            values: dict[str, Tensor] = {}
            with torch.no_grad():
                images = torch.from_numpy(inputs[start : start + batch_size])
                for one in self.program.operations:
                    values[one.output] = self._made(one, [values[source] for source in one.sources], images)
            yield values

    def _made(self, one: ops.Operation, held: list[Tensor], images: Tensor) -> Tensor:
        if self.program.target.rounds_kernels:
            return self._rounded(one, real(one, self._floats(one, held), images))
        if isinstance(one, ops.Image):
            return self._rounded(one, images)
        if isinstance(one, ops.Pixels):
            return _pixels(self.program.spec, images) + self.steps[one.output].zero_point
        if isinstance(one, ops.Float):
            return self._rounded(one, compute(one, self._floats(one, held)))
        return _INTEGER[type(one)](self, one, held)

    def _rounded(self, one: ops.Operation, values: Tensor) -> Tensor:
        return values if one.grid is None else self._engine.quantized(values, self.steps[one.output])

    def _floats(self, one: ops.Operation, held: list[Tensor]) -> list[Tensor]:
        return [self.restored(source, value).float() for source, value in zip(one.sources, held, strict=True)]

    def _parts(self, one: ops.Operation, held: list[Tensor]) -> list[tuple[Tensor, Steps]]:
        return [(value, self.steps[source]) for source, value in zip(one.sources, held, strict=True)]

    def _layer(self, one: ops.Conv | ops.Linear, held: list[Tensor]) -> Tensor:
        sums = self._layers[one.output].sums(held[0])
        if one.grid is None:
            return sums.integer() * sums.scales
        return self._engine.rescaled(sums, self.steps[one.output])

    def _twin(self, one: ops.Twin, held: list[Tensor]) -> Tensor:
        plain, grid = self._layers[one.output].sums(held[0]), self.steps[one.output]
        signs = torch.from_numpy(one.signs).reshape(1, -1, 1, 1)
        scales = torch.from_numpy(one.scaled_scales).reshape(signs.shape)
        scaled = replace(
            plain, products=plain.products * signs, bias_codes=plain.bias_codes * signs, weight_scales=scales
        )
        return torch.maximum(self._engine.rescaled(plain, grid), self._engine.rescaled(scaled, grid))

    def _scale(self, one: ops.Scale, held: list[Tensor]) -> Tensor:
        """Compute a 1x1 depthwise convolution without a bias."""
        source, shape = self.steps[one.source], (1, -1, 1, 1)
        products = (held[0] - source.zero_point) * torch.from_numpy(one.codes).float().reshape(shape)
        nothing, scales = torch.zeros(len(one.codes)).reshape(shape), torch.from_numpy(one.scales).reshape(shape)
        sums = Sums(products, nothing, nothing, source.scale, scales, len(one.codes))
        return self._engine.rescaled(sums, self.steps[one.output])

    def _slopes(self, one: ops.Slopes, held: list[Tensor]) -> Tensor:
        slopes = torch.from_numpy(one.slopes).reshape(1, -1, 1, 1)
        return self._engine.sloped(held[0], slopes, self.steps[one.source], self.steps[one.output])

    def _table(self, one: ops.Table, held: list[Tensor]) -> Tensor:
        return self._engine.quantized(TABLES[one.function](self.restored(one.source, held[0])), self.steps[one.output])

    def _add(self, one: ops.Add, held: list[Tensor]) -> Tensor:
        return self._engine.added(self._parts(one, held), self.steps[one.output])

    def _mul(self, one: ops.Mul, held: list[Tensor]) -> Tensor:
        return self._engine.multiplied(self._parts(one, held), self.steps[one.output])

    def _max_pool(self, one: ops.MaxPool, held: list[Tensor]) -> Tensor:
        return max_pool(one.window, held[0])

    def _average_pool(self, one: ops.AveragePool, held: list[Tensor]) -> Tensor:
        grid, window = self.steps[one.output], one.window
        windows = Windows(
            partial(average_pool, window), partial(average_pool, window, divisor=1), math.prod(window.kernel)
        )
        return self._engine.pooled(windows, held[0] - grid.zero_point, grid)

    def _global_average_pool(self, one: ops.GlobalAveragePool, held: list[Tensor]) -> Tensor:
        grid, pixels = self.steps[one.output], held[0].shape[2] * held[0].shape[3]
        return self._engine.averaged((held[0] - grid.zero_point).sum(dim=(2, 3), keepdim=True), pixels, grid)

    def _move(self, one: ops.Move, held: list[Tensor]) -> Tensor:
        zero = self.steps[one.output].zero_point
        moved: Tensor = one.module(*[codes - zero for codes in held])
        return moved + zero

    def _requantize(self, one: ops.Requantize, held: list[Tensor]) -> Tensor:
        return self._rounded(one, *self._floats(one, held))

    def _normalize(self, one: ops.Normalize, held: list[Tensor]) -> Tensor:
        return F.normalize(self.restored(one.source, held[0]), eps=one.eps)


class _Layer:
    """The constants of a layer as tensors, its codes in floats wide enough for its largest sum."""

    def __init__(self, one: ops.Conv | ops.Linear | ops.Twin, steps: Mapping[str, Steps]) -> None:
        constants, source = one.constants, steps[one.source]
        self.window = None if isinstance(one, ops.Linear) else one.window
        shape = (1, -1) + (1,) * (constants.codes.ndim - 2)
        codes = torch.from_numpy(constants.codes).double()
        largest_sum = codes.abs().flatten(1).sum(1).max() * ACTIVATION_MAX
        self.codes = codes.float() if largest_sum < _EXACT_IN_FLOAT32 else codes
        self.zero_point, self.input_scale = source.zero_point, source.scale
        self.bias, self.bias_codes, self.scales = (
            torch.from_numpy(part).reshape(shape) for part in (constants.bias, constants.bias_codes, constants.scales)
        )

    def sums(self, codes: Tensor) -> Sums:
        """Return a layer's sums over centred codes: exact whole numbers."""
        centred = (codes - self.zero_point).to(self.codes.dtype)
        if self.window is None:
            products, groups = F.linear(centred, self.codes), 1
        else:
            products, groups = convolved(self.window, centred, self.codes), self.window.groups
        bias_codes = self.bias_codes.to(torch.float32)
        return Sums(products.round_(), bias_codes, self.bias, self.input_scale, self.scales, groups)


_LAYERS = (ops.Conv, ops.Linear, ops.Twin)


def _pixels(spec: ModelSpec, images: Tensor) -> Tensor:
    return torch.from_numpy(image_inputs(spec, spec.pixels_of(images.numpy())))


_INTEGER: Mapping[type[ops.Operation], Callable[[Simulator, Any, list[Tensor]], Tensor]] = {
    ops.Conv: Simulator._layer,
    ops.Linear: Simulator._layer,
    ops.Twin: Simulator._twin,
    ops.Scale: Simulator._scale,
    ops.Max: lambda _, one, held: torch.maximum(held[0], held[1]),
    ops.Clip: lambda _, one, held: held[0].clamp(one.low, one.high),
    ops.Slopes: Simulator._slopes,
    ops.Table: Simulator._table,
    ops.Add: Simulator._add,
    ops.Mul: Simulator._mul,
    ops.MaxPool: Simulator._max_pool,
    ops.AveragePool: Simulator._average_pool,
    ops.GlobalAveragePool: Simulator._global_average_pool,
    ops.Flatten: lambda _, one, held: torch.flatten(held[0], 1),
    ops.OnePixel: lambda _, one, held: held[0][..., None, None],
    ops.Vectors: lambda _, one, held: held[0][..., 0, 0],
    ops.Concat: lambda _, one, held: torch.cat(held, 1),
    ops.Move: Simulator._move,
    ops.Requantize: Simulator._requantize,
    ops.Same: lambda _, one, held: held[0],
    ops.Normalize: Simulator._normalize,
}
