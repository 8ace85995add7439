"""Small ONNX files with a quantize/dequantize pattern that fits, and the ways in which patterns do not."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SCALE = np.float32(0.05)
WEIGHT_SCALE = np.float32(0.01)
CHANNELS = 8
SIDE = 8


class QdqFile:
    """Builds one file; activations all have one scale, weights another, so that products are easy to get wrong."""

    def __init__(self, codes=np.uint8, opset=13):
        self.codes, self.opset = codes, opset
        self.nodes, self.constants = [], []
        self.draw = np.random.default_rng(0)

    def constant(self, value, dtype=np.float32):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, kind, inputs, name="", **attributes):
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def _grid(self, zero_point, scale=SCALE):
        middle = zero_point if self.codes is np.uint8 else zero_point - 128
        return [self.constant(scale), self.constant(middle, self.codes)]

    def quantize(self, x, zero_point=128):
        return self.node("QuantizeLinear", [x, *self._grid(zero_point)])

    def dequantize(self, x, zero_point=128, scale=SCALE):
        return self.node("DequantizeLinear", [x, *self._grid(zero_point, scale)])

    def pair(self, x, zero_point=128, behind=SCALE):
        """Round a float tensor to its codes and back."""
        return self.dequantize(self.quantize(x, zero_point), zero_point, behind)

    def layer(self, kind, x, entering, name="", bias_scale=1.0, float_weight=False, **attributes):
        shape = (CHANNELS, entering) if kind == "Gemm" else (CHANNELS, entering, 1, 1)
        codes = self.draw.integers(-127, 128, shape)
        weight = self.constant(codes * WEIGHT_SCALE) if float_weight else self._weight(codes)
        bias = self.node(
            "DequantizeLinear",
            [
                self.constant(self.draw.integers(-99, 99, CHANNELS), np.int32),
                self.constant(np.full(CHANNELS, np.float32(bias_scale) * SCALE * WEIGHT_SCALE)),
            ],
            axis=0,
        )
        return self.node(kind, [x, weight, bias], name=name, **attributes)

    def _weight(self, codes):
        scales = self.constant(np.full(CHANNELS, WEIGHT_SCALE))
        zeros = self.constant(np.zeros(CHANNELS), np.int8)
        return self.node("DequantizeLinear", [self.constant(codes, np.int8), scales, zeros], axis=0)

    def conv(self, x, entering=CHANNELS, name="", **options):
        return self.layer("Conv", x, entering, name, **options)

    def head(self, x):
        """Pool, flatten and multiply: the end of the network, whose output is float."""
        pooled = self.pair(self.node("GlobalAveragePool", [x]))
        flat = self.pair(self.node("Flatten", [pooled]))
        return self.layer("Gemm", flat, CHANNELS, name="fc", transB=1)

    def model(self, output, batch="batch"):
        self.nodes.append(helper.make_node("Identity", [output], ["embedding"]))
        graph = helper.make_graph(
            self.nodes,
            "small",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=7)


def write(model, path):
    """Write a model and return the path."""
    onnx.save(model, path)
    return path


def whole(**options):
    """Return a network that runs on integers from end to end."""
    file = QdqFile(**options)
    x = file.pair(file.conv(file.pair("image"), 3, "first"))
    return file.model(file.head(file.pair(file.conv(x, name="second"))))


def between(put, **options):
    """Return a network whose second convolution has something between it and its QuantizeLinear."""
    file = QdqFile(**options)
    x = file.pair(file.conv(file.pair("image"), 3, "first"))
    return file.model(file.head(file.pair(put(file, file.conv(x, name="second")))))


def prelu(file, x):
    """Put a PReLU of several slopes."""
    return file.node("PRelu", [x, file.constant(np.linspace(-0.5, 0.5, CHANNELS).reshape(-1, 1, 1))], name="slopes")


def batch_norm(file, x):
    """Put a BatchNormalization with float statistics."""
    ones = [file.constant(np.linspace(0.5, 1.5, CHANNELS)) for _ in range(4)]
    return file.node("BatchNormalization", [x, *ones], name="norm")


def float_network():
    """Return a float network with a PReLU, to be quantized by whoever likes."""
    file = QdqFile()
    x = "image"
    for number, entering in enumerate((3, CHANNELS)):
        weight = file.constant(file.draw.normal(0, 0.3, (CHANNELS, entering, 3, 3)))
        bias = file.constant(file.draw.normal(0, 0.1, CHANNELS))
        x = prelu(file, file.node("Conv", [x, weight, bias], name=f"conv{number}", pads=[1, 1, 1, 1]))
        file.nodes[-1].name = f"prelu{number}"
    return file.model(file.node("Flatten", [file.node("GlobalAveragePool", [x])]))
