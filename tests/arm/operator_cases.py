"""Single operators over random and adversarial codes, with what the simulated arithmetic makes of them on ARM.

Every case is an operator of its own in one large graph, so that thousands of them start the runtime once.
"""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from onnx import TensorProto, helper, numpy_helper

from qface_toolkit.integer import program as ops
from qface_toolkit.integer.arithmetic import ARITHMETIC, Steps, Sums, Windows
from qface_toolkit.integer.real import TABLES, average_pool
from qface_toolkit.quantize.scheme import Grid

ARM, X86 = (
    {signed: ARITHMETIC[f"onnxruntime{kind}{'-signed' if signed else ''}"] for signed in (False, True)}
    for kind in ("-arm", "")
)
"""The arithmetic on either kind of processor, by whether codes are signed."""

RATIOS = (1.0, 0.5, 0.25, 1.5, 2.0**-14, 2.0**-14.01, 255.9, 256.0, 1 - 2.0**-24)
"""Where additions change their way, or sums lie in the middle between two codes."""
HALVES = (1.0, 0.5, 0.25, 0.125, 1.5)


class Cases:
    """A graph of many operators, what it is given and what it must return."""

    def __init__(self, seed, engines=ARM):
        self.engines = engines
        self.draw = np.random.default_rng(seed)
        self.nodes, self.constants, self.entering, self.leaving = [], [], [], []
        self.inputs, self.expected = {}, {}

    def model(self):
        """Return the graph as a file."""
        graph = helper.make_graph(self.nodes, "cases", self.entering, self.leaving, self.constants)
        sets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=sets, ir_version=8)

    def constant(self, value, dtype):
        """Return the name of a constant."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def codes(self, shape, signed):
        """Return codes as they are counted from 0, random or all at the ends, and the name of their input."""
        ends = self.draw.integers(3) == 0
        codes = self.draw.choice([0, 255], shape) if ends else self.draw.integers(0, 256, shape)
        return torch.from_numpy(codes).float(), self.given(codes, signed)

    def given(self, codes, signed):
        """Return the name of an input that is given these codes."""
        name, stored = f"x{len(self.inputs)}", _stored(codes, signed)
        kind = helper.np_dtype_to_tensor_dtype(stored.dtype)
        self.entering.append(helper.make_tensor_value_info(name, kind, stored.shape))
        self.inputs[name] = stored
        return name

    def grid(self, scale=None):
        """Return a grid of a random zero point, and of a random scale unless one is asked for."""
        scale = np.float32(2.0 ** self.draw.uniform(-8, 1) if scale is None else scale)
        return Grid(scale, int(self.draw.integers(0, 256)))

    def on(self, grid, signed):
        """Return the names of a grid's constants."""
        stored = _stored(np.asarray(grid.zero_point), signed)
        return self.constant(grid.scale, np.float32), self.constant(stored, stored.dtype)

    def returns(self, name, expected, signed):
        """Let the graph return codes that must be these."""
        self.expected[name] = _stored(expected.numpy().astype(np.int64), signed)
        kind = helper.np_dtype_to_tensor_dtype(self.expected[name].dtype)
        self.leaving.append(helper.make_tensor_value_info(name, kind, None))

    def read(self, name, grid, signed):
        """Return the name of what codes stand for."""
        return self._node("DequantizeLinear", name, *self.on(grid, signed))

    def written(self, name, grid, signed, expected):
        """Round values to a grid and return them."""
        self.returns(self._node("QuantizeLinear", name, *self.on(grid, signed)), expected, signed)

    def _node(self, kind, *names, **attributes):
        output = f"y{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(names), [output], **attributes))
        return output

    def binary(self, kind):
        """Add a sum or a product of two tensors, or of a tensor and a number, of scales that may lie far apart."""
        signed, shape = bool(self.draw.integers(2)), (1, int(self.draw.integers(1, 2000)))
        output = self.grid()
        grids = [self.grid(scale) for scale in self._scales(kind, float(output.scale))]
        shapes = (shape, (1, 1) if self.draw.integers(4) == 0 else shape)
        (a, first), (b, second) = (self.codes(one, signed) for one in shapes)
        parts = [(a, Steps.of(grids[0])), (b, Steps.of(grids[1]))]
        engine = self.engines[signed]
        found = (engine.added if kind == "QLinearAdd" else engine.multiplied)(parts, Steps.of(output))
        names = [first, *self.on(grids[0], signed), second, *self.on(grids[1], signed), *self.on(output, signed)]
        self.returns(self._node(kind, *names, domain="com.microsoft"), found, signed)

    def _scales(self, kind, output):
        if kind == "QLinearAdd":
            return [self._ratio(RATIOS, -20, 9) * output for _ in range(2)]
        # The product of two rounded scales is a little more or less than what would be exact.
        first = 2.0 ** self.draw.uniform(-6, 1)
        return [first, self._ratio(HALVES, -9, 1) * output / first]

    def _ratio(self, known, lowest, highest):
        return self.draw.choice(known) if self.draw.integers(2) else 2.0 ** self.draw.uniform(lowest, highest)

    def convolution(self, groups, inputs, outputs, kernel):
        """Add a convolution onto a grid, whose sums may lie in the middle between two codes or saturate."""
        signed, source = bool(self.draw.integers(4)), self.grid()
        stride, dilation, border = (int(self.draw.choice(some)) for some in ((1, 2), (1, 1, 2), (0, 1, 2)))
        sizes = self.draw.integers((kernel - 1) * dilation + 1, (kernel - 1) * dilation + 12, 2)
        codes, name = self.codes((int(self.draw.integers(1, 3)), inputs, *map(int, sizes)), signed)
        window = ops.Window((stride, stride), (border, border), (dilation, dilation), groups)
        geometry = {"strides": window.stride, "pads": window.padding * 2, "dilations": window.dilation, "group": groups}
        weight = self._weight((outputs, inputs // groups, kernel, kernel))
        centred = (codes - source.zero_point).double()
        options = (None, window.stride, window.padding, window.dilation, groups)
        products = F.conv2d(centred, torch.from_numpy(weight).double(), *options)
        self._layer("Conv", name, source, weight, products, signed, **geometry)

    def linear(self, inputs, outputs):
        """Add a linear layer onto a grid."""
        signed, source = bool(self.draw.integers(4)), self.grid()
        codes, name = self.codes((int(self.draw.integers(1, 4)), inputs), signed)
        weight = self._weight((outputs, inputs))
        products = F.linear((codes - source.zero_point).double(), torch.from_numpy(weight).double())
        self._layer("Gemm", name, source, weight, products, signed, transB=1)

    def _weight(self, shape):
        ends = self.draw.integers(3) == 0
        drawn = self.draw.choice([-127, 127], shape) if ends else self.draw.integers(-127, 128, shape)
        return drawn.astype(np.int8)

    def _layer(self, kind, name, source, weight, products, signed, **attributes):
        even = self.draw.integers(2) == 0
        scales = (
            2.0 ** self.draw.integers(-9, -2, len(weight)) if even else 2.0 ** self.draw.uniform(-9, -2, len(weight))
        )
        scales = scales.astype(np.float32)
        source = Grid(np.float32(2.0**-5), source.zero_point) if even else source
        shape = (1, -1) + (1,) * (products.ndim - 2)
        bias = self.draw.integers(-(2**16), 2**16, len(weight)).astype(np.int32)
        wide = float((products + torch.from_numpy(bias).reshape(shape)).abs().mean()) * float(np.median(scales))
        step = wide * source.scale / self.draw.uniform(10, 120)
        output = self.grid(2.0 ** np.rint(np.log2(step)) if even else step)
        sums = Sums(
            products,
            torch.from_numpy(bias).float().reshape(shape),
            torch.zeros(1),
            torch.tensor(source.scale),
            torch.from_numpy(scales).reshape(shape),
            1,
        )
        found = self.engines[signed].rescaled(sums, Steps.of(output))
        held = self._of_channels(weight, scales, np.int8), self._of_channels(bias, source.scale * scales, np.int32)
        made = self._node(kind, self.read(name, source, signed), *held, **attributes)
        self.written(made, output, signed, found)

    def _of_channels(self, codes, scales, dtype):
        zeros = self.constant(np.zeros(len(scales)), dtype)
        names = self.constant(codes, dtype), self.constant(scales, np.float32), zeros
        return self._node("DequantizeLinear", *names, axis=0)

    def whole_average(self, channels):
        """Add averages of whole maps."""
        signed, grid = bool(self.draw.integers(2)), self.grid()
        height, width = map(int, self.draw.integers(1, 15, 2))
        codes, name = self.codes((2, channels, height, width), signed)
        sums = (codes - grid.zero_point).sum((2, 3), keepdim=True)
        found = self.engines[signed].averaged(sums, height * width, Steps.of(grid))
        self.written(self._node("GlobalAveragePool", self.read(name, grid, signed)), grid, signed, found)

    def average(self, channels):
        """Add averages of windows, with and without a border that counts."""
        signed, grid = bool(self.draw.integers(2)), self.grid()
        kernel, stride = (tuple(map(int, self.draw.integers(1, most, 2))) for most in (4, 3))
        padding, counted = tuple(size // 2 for size in kernel), bool(self.draw.integers(2))
        codes, name = self.codes((2, channels, *map(int, self.draw.integers(4, 12, 2))), signed)
        window = ops.PoolWindow(kernel, stride, padding, False, counted)
        windows = Windows(lambda values: average_pool(window, values), lambda values: values, 1)
        found = self.engines[signed].pooled(windows, codes - grid.zero_point, Steps.of(grid))
        geometry = {"kernel_shape": kernel, "strides": stride, "pads": padding * 2, "count_include_pad": int(counted)}
        self.written(self._node("AveragePool", self.read(name, grid, signed), **geometry), grid, signed, found)

    def sigmoid(self):
        """Add a sigmoid of every code."""
        signed, source, output = bool(self.draw.integers(2)), self.grid(), self.grid(2.0 ** self.draw.uniform(-9, -7.9))
        codes = torch.arange(256.0).reshape(1, 1, 16, 16)
        name = self.given(codes.numpy().astype(np.int64), signed)
        found = self.engines[signed].quantized(TABLES["sigmoid"](Steps.of(source).restored(codes)), Steps.of(output))
        self.written(self._node("Sigmoid", self.read(name, source, signed)), output, signed, found)

    def rounding(self):
        """Add the rounding of float values, many of them in the middle between two codes."""
        signed, grid = bool(self.draw.integers(2)), self.grid(2.0 ** self.draw.integers(-6, 2))
        values = (self.draw.integers(-600, 1200, (1, 1000)) / 2 * grid.scale).astype(np.float32)
        name = f"x{len(self.inputs)}"
        self.entering.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, values.shape))
        self.inputs[name] = values
        self.written(name, grid, signed, self.engines[signed].quantized(torch.from_numpy(values), Steps.of(grid)))


def _stored(codes, signed):
    """Return codes that are counted from 0 as they are stored."""
    return (codes - 128).astype(np.int8) if signed else codes.astype(np.uint8)


def additions(cases):
    for _ in range(300):
        cases.binary("QLinearAdd")


def products(cases):
    for _ in range(300):
        cases.binary("QLinearMul")


def convolutions(cases):
    for _ in range(80):
        channels = int(cases.draw.choice([1, 4, 8, 15, 16, 20, 32, 64, 100]))
        cases.convolution(channels, channels, channels, int(cases.draw.choice([1, 3, 5, 7])))
        inputs, outputs = (
            int(cases.draw.choice(some)) for some in ((1, 3, 4, 8, 16, 33, 64), (1, 4, 8, 13, 16, 24, 64))
        )
        cases.convolution(1, inputs, outputs, int(cases.draw.choice([1, 1, 2, 3, 5])))
        groups, each = int(cases.draw.choice([2, 4, 8])), int(cases.draw.choice([1, 2, 4, 8, 16]))
        cases.convolution(groups, groups * each, groups * 4, int(cases.draw.choice([1, 3])))


def linear_layers(cases):
    for _ in range(80):
        cases.linear(*(int(cases.draw.choice(some)) for some in ((1, 4, 16, 31, 128, 512, 1000), (1, 8, 16, 63, 128))))


def pools(cases):
    for _ in range(100):
        channels = int(cases.draw.choice([1, 3, 7, 8, 16, 17, 32, 48]))
        cases.whole_average(channels)
        cases.average(channels)


def tables(cases):
    for _ in range(40):
        cases.sigmoid()
        cases.rounding()


KINDS = (additions, products, convolutions, linear_layers, pools, tables)
