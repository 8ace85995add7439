"""The networks and the shapes that the table of operator times is made of."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import fx

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.models import ARCHITECTURES, ModelSpec, load_model
from qface_toolkit.quantize.forms import scale_shape
from qface_toolkit.quantize.groups import group_forms_of, has_groups, padded, parts, shape_of_conv
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.times import ConvShape, Row

CHANNELS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
SIZES = (4, 7, 9, 14, 18, 28, 35, 56, 75, 112)
RANDOM_SHAPES = 520
MOST_PRODUCTS = 5e8
"""Multiplications of the largest random shape."""

FACTS = {"mean": 127.5, "std": 127.5, "color": "rgb", "checked": True}
"""What stands for the facts that a file does not tell: time does not depend on them."""

Network = tuple[fx.GraphModule, ModelSpec]


def network_of(wanted: str) -> Network:
    """Return the canonical network that an argument asks for, with its facts."""
    name, given, path = wanted.partition("=")
    if given:
        model = load_model(path, overrides=FACTS)
        return canonicalise(model.network, model.spec.input_size, model.spec.channels), model.spec
    plan = ARCHITECTURES.get(name).published
    torch.manual_seed(0)
    spec = ModelSpec(name, plan.input_size, plan.embedding_size)
    return canonicalise(plan.build().eval(), plan.input_size), spec


def known_networks() -> list[Network]:
    """Return the known architectures but the largest, whose shapes smaller ones have too."""
    return [network_of(name) for name in ARCHITECTURES.names() if not name.endswith(("101", "152"))]


def rows_of(network: fx.GraphModule) -> Iterator[Row]:
    """Yield the convolutions that the layers of a network may become."""
    for node in network.graph.nodes:
        if operation(node) not in LAYERS:
            continue
        shape = shape_of_conv(node)
        yield from (("float", shape), ("integer", padded(shape)))
        scaling = scale_shape(shape.outputs, shape.height, shape.width)
        yield from (("integer", scaling), ("float", replace(scaling, groups=shape.outputs)))
        if has_groups(node):
            for form in group_forms_of(module(node)):
                yield "integer", parts(shape, form)[0]
                if not form.interleaved:
                    yield "float", parts(shape, form)[0]


def random_rows(seed: int = 0) -> Iterator[Row]:
    """Yield shapes that no known network has: other channels, groups and sizes."""
    draw, found = np.random.default_rng(seed), 0
    while found < RANDOM_SHAPES:
        inputs, outputs = (int(draw.choice(CHANNELS)) for _ in range(2))
        kernel, stride, size = (int(draw.choice(some)) for some in ((1, 3, 3, 3, 5), (1, 1, 1, 2), SIZES))
        kind = draw.choice(["dense", "pointwise", "depthwise", "groups", "folded"])
        shape = ConvShape(inputs, outputs, *(2 * [1 if kind == "pointwise" else kernel]), stride, 1, size, size)
        if kind in ("depthwise", "folded"):
            fold = 1 if kind == "depthwise" else int(draw.choice([2, 4, 8]))
            shape = replace(
                shape, outputs=inputs, groups=inputs, kernel=max(3, kernel), columns=max(3, kernel), fold=fold
            )
        if kind == "groups":
            groups = int(draw.choice([2, 4, 8, 16, 32, 64]))
            if inputs % groups or outputs % groups or groups in (inputs, outputs):
                continue
            shape = replace(shape, groups=groups)
        if shape.multiply_adds <= MOST_PRODUCTS:
            found += 1
            yield "integer", padded(shape)
            if shape.fold == 1:
                yield "float", shape
