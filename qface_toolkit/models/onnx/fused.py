"""Nodes that ONNX Runtime made of a layer and its activation, taken apart again.

Files that it saved after optimizing are passed on as models, and often they are all there is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx

_Proto = Any  # onnx ships no types
_DOMAIN = "com.microsoft"
_LAYERS = {"FusedConv": "Conv", "FusedGemm": "Gemm"}
_ACTIVATIONS: Mapping[str, Sequence[str]] = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Clip": ("min", "max"),
}
"""Activation -> its numbers, in the order in which the fused node lists them."""


def taken_apart(proto: _Proto) -> list[_Proto]:
    """Return the nodes that a fused node stands for: a layer, what is added, an activation; any other node as it is."""
    given = {attribute.name: attribute for attribute in proto.attribute}
    kind = given["activation"].s.decode("ascii", "replace") if "activation" in given else ""
    if proto.domain != _DOMAIN or proto.op_type not in _LAYERS or kind not in _ACTIVATIONS or not proto.output:
        return [proto]
    made, name = f"{proto.output[0]}, before {kind}", proto.name
    layer = onnx.helper.make_node(_LAYERS[proto.op_type], proto.input[:3], [made], name=name)
    layer.attribute.extend(given[key] for key in given if not key.startswith("activation"))
    parts = [layer]
    if len(proto.input) > 3 and proto.input[3]:
        parts.append(onnx.helper.make_node("Add", [made, proto.input[3]], [f"{made}, and more"], name=f"{name}_sum"))
    end = onnx.helper.make_node(kind, parts[-1].output, proto.output[:1], name=f"{name}_{kind}")
    numbers = zip(_ACTIVATIONS[kind], _numbers(given), strict=False)
    end.attribute.extend(onnx.helper.make_attribute(key, number) for key, number in numbers)
    return [*parts, end]


def _numbers(given: Mapping[str, _Proto]) -> list[float]:
    """Return an activation's numbers, which convolutions hold in a list and matrices one by one."""
    if "activation_params" in given:
        return [float(number) for number in given["activation_params"].floats[:2]]
    return [float(given[key].f) for key in ("activation_alpha", "activation_beta") if key in given]
