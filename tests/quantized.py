"""Small networks with everything that makes real ones hard to quantize, and the short way from one to an artifact."""

import copy
import functools

import numpy as np
import torch
from torch import nn

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.integer.making import program_of
from qface_toolkit.integer.simulate import Simulator
from qface_toolkit.integer.tensors import side_by_side
from qface_toolkit.methods import METHODS, Context
from qface_toolkit.models import ModelSpec
from qface_toolkit.models.ir import IRPlan
from qface_toolkit.models.iresnet import IResNetPlan
from qface_toolkit.models.mobilefacenet import Bottleneck, MobileFaceNetPlan, PReLUMobileFaceNet, ReLU6MobileFaceNet
from qface_toolkit.models.mobilefacenet_insightface import MBF, QuantFaceMobileFaceNet
from qface_toolkit.models.pocketnet import PocketNetPlan
from qface_toolkit.quantize.model import new_model
from qface_toolkit.quantize.target import ONNX

SLOPES = (0.0, 1e-9, -1e-6, 1.7, -1.6, 1.0, -1.0, 3.1)
"""Slopes that are zero, tiny or steep: real checkpoints have them all."""


def _mobilefacenet(network, hidden=16, embedding=16):
    bottlenecks = (Bottleneck(8, hidden, 16, 2), Bottleneck(16, 32, 16, 1), Bottleneck(16, 32, 16, 2))
    last = (Bottleneck(16, 32, 16, 2),) if network is not PReLUMobileFaceNet else (Bottleneck(16, 128, 16, 2),)
    plan = MobileFaceNetPlan("small", network, 8, bottlenecks + last, head=32, embedding_size=embedding, kernel=(2, 2))
    return plan.build()


SMALL_NETWORKS = {
    "mobilefacenet": (lambda: _mobilefacenet(PReLUMobileFaceNet), (32, 32)),
    "mobilefacenet-relu6": (lambda: _mobilefacenet(ReLU6MobileFaceNet), (32, 32)),
    "quantface": (lambda: _mobilefacenet(QuantFaceMobileFaceNet), (32, 32)),
    "mbf": (lambda: _mobilefacenet(MBF), (32, 32)),
    "iresnet": (lambda: IResNetPlan((1, 2, 1, 1), (8, 8, 16, 16), 8, 16, grid=(2, 2)).build(), (32, 32)),
    "irse": (lambda: IRPlan((1, 2, 1, 1), (8, 16, 24, 32), 8, 4, grid=(2, 2), embedding_size=16).build(), (32, 32)),
    "pocketnet": (lambda: PocketNetPlan(4, 4, 16, head=16).build(), (112, 112)),
}
"""Name -> what builds a small network of the layout, and its input size."""
QUICK_NETWORKS = ("mobilefacenet", "mobilefacenet-relu6", "quantface", "mbf", "iresnet")
"""Those that take half a second to calibrate; the others have more layers."""


def trained(network):
    """Give a network the BatchNorm statistics and slopes of a trained one, from a fixed seed, in eval mode."""
    draw = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            size = module.num_features
            module.running_mean.copy_(torch.randn(size, generator=draw) * 0.3)
            module.running_var.copy_(torch.rand(size, generator=draw) * 0.8 + 0.2)
            if module.affine:
                module.weight.data.copy_(torch.rand(size, generator=draw) + 0.4)
                module.weight.data[::5] *= -1
                module.bias.data.copy_(torch.randn(size, generator=draw) * 0.3)
        if isinstance(module, nn.PReLU):
            slopes = torch.rand(module.num_parameters, generator=draw) * 1.2 - 0.4
            slopes[1::2][: len(SLOPES)] = torch.tensor(SLOPES)[: len(slopes[1::2])]
            module.weight.data.copy_(slopes)
    return network.eval()


def small_network(name):
    """Return a small trained-looking network of a layout and its input size."""
    torch.manual_seed(0)
    build, input_size = SMALL_NETWORKS[name]
    return trained(build()), input_size


_WEIGHTS = {}
"""What the models of `small_model` held when they were made."""


@functools.cache
def small_model(name):
    """Return the model of a small network, calibrated on the usual images once for all tests, which must not change it.

    A test that changes weights takes `calibrated(*small_network(name))`.
    """
    model = calibrated(*small_network(name))
    _WEIGHTS[name] = copy.deepcopy(model.network.state_dict())
    return model


def check_small_models():
    """Fail if some test changed a model that all use."""
    for name, weights in _WEIGHTS.items():
        now = small_model(name).network.state_dict()
        assert now.keys() == weights.keys(), f"a test changed the shared model {name!r}"
        assert all(torch.equal(now[key], weights[key]) for key in now), f"a test changed the shared model {name!r}"


def smooth_images(input_size, count=4, seed=0):
    """Return preprocessed images without sharp edges, float32 [count, 3, height, width]."""
    height, width = input_size
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, height, width)).astype(np.float32)
    smooth = torch.nn.functional.avg_pool2d(torch.from_numpy(pixels), 5, stride=1, padding=2).round()
    return ((smooth - 127.5) / 127.5).numpy()


def run(network, images):
    """Return a torch network's embeddings."""
    with torch.no_grad():
        return network(torch.from_numpy(images)).numpy()


def calibrated(network, input_size, images=None, **options):
    """Return the quantized model of a network, calibrated on images."""
    images = smooth_images(input_size) if images is None else images
    spec = ModelSpec("test", input_size, run(network, images[:1]).shape[1])
    return calibrate(new_model(canonicalise(network, input_size), spec), images, **options)


def calibrate(model, images, **options):
    """Return a model with ranges."""
    method = METHODS.get("calibrate")
    context = Context(images, ONNX, seed=0, batch_size=4, progress=lambda done, total: None)
    return method.run(model, method.options(**options), context)


def codes_of(model, target, images):
    """Return the codes of each tensor that a target holds as codes."""
    simulator = Simulator(program_of(model, target))
    return next(simulator.codes(images, batch_size=len(images)))


def both_sides(model, target, images):
    """Return for each comparable tensor, by name, what the float network makes of images and what is behind codes."""
    sides = side_by_side(model, target, images, batch_size=len(images))
    return {name: (exact, restored) for name, exact, restored in sides}


def printed(backend, model):
    """Return the graph that a QDQ backend prints of a model, without metadata, and the names in it."""
    return BACKENDS.get(backend).printed(model)


def opened(backend, model, folder, facts=None):
    """Lower a model to a file in a folder and open it."""
    artifact = folder / BACKENDS.get(backend).artifact
    artifact.write_bytes(BACKENDS.get(backend).lower(model, facts or {}))
    return BACKENDS.get(backend).open(artifact, threads=1)


def cosines(first, second):
    """Return the cosine of each pair of rows, computed here so that the package's own does not test itself."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    return (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
