"""The trained network that is part of the package, and drawings for it: what its channels say is real."""

import functools

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.canonical.graph import operation
from qface_toolkit.models import load_model
from qface_toolkit.quantize.groups import shape_of_conv
from qface_toolkit.quantize.model import new_model
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.sources import find_set, load_crops


@functools.cache
def demo_model():
    """Return the demo model without ranges, which tests must not change."""
    demo = load_model("demo")
    return new_model(canonicalise(demo.network, demo.spec.input_size), demo.spec)


@functools.cache
def drawn_images(count):
    """Return so many drawings as the demo model reads them."""
    return demo_model().spec.preprocess(load_crops(find_set("drawings").with_(count, 5).open()))


def multiplications(network):
    """Return those of each layer, on a network whose shapes are noted."""
    layers = (node for node in network.graph.nodes if operation(node) in LAYERS)
    return {node.name: shape_of_conv(node).multiply_adds for node in layers}
