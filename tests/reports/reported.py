"""What people held when they asked for help, made small: structure alone, with random weights."""

import io
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.models import load_model
from qface_toolkit.result.opening import Wanted, open_embedder

FACTS = {"mean": 127.5, "std": 128.0, "color": "rgb"}
SETS = tuple(word for key, value in FACTS.items() for word in ("--set", f"model.{key}={value}"))
SIZE = (32, 32)
WIDTH = 8
EMBEDDING = 16


def small_network(activation=lambda: nn.PReLU(WIDTH), size=SIZE):
    """Return two convolutions, a residual, and the usual end of a face network, in eval mode with used statistics."""
    body = (nn.Conv2d(3, WIDTH, 3, 2, 1, bias=False), nn.BatchNorm2d(WIDTH), activation())
    more = (nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), activation())
    pixels = -(-size[0] // 4) * -(-size[1] // 4)
    network = nn.Sequential(*body, *more, nn.Flatten(), nn.Linear(WIDTH * pixels, EMBEDDING), nn.BatchNorm1d(EMBEDDING))
    return lived_in(network, size)


def lived_in(network, size=SIZE, seed=0):
    """Give a network's BatchNorm the statistics of noise, and its slopes values as training leaves them."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            module.weight.data.uniform_(0.05, 0.6)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(8, 3, *size))
    return network.eval()


def exported(network, *, size=SIZE, batch="batch", opset=17, names=("input", "embedding"), **options):
    """Return the ONNX model that torch's tracing exporter makes of a network; `batch` None fixes it at one."""
    buffer = io.BytesIO()
    axes = {name: {0: batch} for name in names} if batch else None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        probe = torch.zeros(2 if batch else 1, 3, *size)
        options = {"dynamic_axes": axes, "input_names": names[:1], "output_names": names[1:], **options}
        torch.onnx.export(network, (probe,), buffer, dynamo=False, opset_version=opset, **options)
    return onnx.load_from_string(buffer.getvalue())


def drawn(seed, *shape, scale=None):
    """Return weights of a shape, scaled so that what they make stays of the size of what they read."""
    fan = np.sqrt(np.prod(shape[1:])) if scale is None else 1 / scale
    return (np.random.default_rng(seed).standard_normal(shape) / fan).astype(np.float32)


def node(op, inputs, outputs, **attributes):
    """Return a node; inputs and outputs are names with spaces between."""
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"{op}_{outputs}", **attributes)


def built(nodes, constants, *, shape=("N", 3, *SIZE), opset=17, ends=None, entering=(), kind=TensorProto.FLOAT):
    """Return an ONNX model of nodes that read "x" and make "y", with further inputs `entering`."""
    tensors = [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()]
    ends = ends or {"y": ("N", EMBEDDING)}
    outputs = [helper.make_tensor_value_info(name, kind, axes) for name, axes in ends.items()]
    image = helper.make_tensor_value_info("x", kind, shape)
    graph = helper.make_graph(nodes, "net", [image, *entering], outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset > 8 else 3)


def tail(entering="z", channels=WIDTH):
    """Return nodes and constants that make the embedding "y" of a map of `channels`."""
    nodes = [node("GlobalAveragePool", entering, "g"), node("Flatten", "g", "f"), node("Gemm", "f last none", "y")]
    return nodes, {"last": drawn(9, channels, EMBEDDING), "none": np.zeros(EMBEDDING, np.float32)}


def saved(folder, model, name="net.onnx"):
    """Write a model, or its bytes, and return the path."""
    path = folder / name
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def images(count, size=SIZE, seed=0, channels=3):
    """Return preprocessed-looking images, float32 [count, channels, height, width]."""
    return np.random.default_rng(seed).standard_normal((count, channels, *size)).astype(np.float32)


def runtime_rows(path, batch, **others):
    """Return what ONNX Runtime computes with a file for images, one by one, as float32 rows."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    kind = np.float16 if entry.type == "tensor(float16)" else np.float32
    rows = [session.run(None, {entry.name: batch[at : at + 1].astype(kind), **others})[0] for at in range(len(batch))]
    return np.concatenate([np.asarray(row, np.float32).reshape(1, -1) for row in rows])


def module_rows(network, batch):
    """Return what a module computes for images, as rows."""
    with torch.no_grad():
        return network(torch.from_numpy(batch)).numpy()


def off(found, expected):
    """Return the largest difference as a share of the largest number."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float(abs(found - expected).max() / abs(expected).max())


def assert_read(path, expected, batch, *, most=1e-5, **facts):
    """Assert that a file is read as what computes these rows, and that it can be brought to integers."""
    model = load_model(path, overrides={**FACTS, **facts})
    assert off(module_rows(model.network, batch), expected) < most
    canonical = canonicalise(model.network, model.spec.input_size, model.spec.channels)
    assert off(module_rows(canonical, batch), expected) < most
    return model


def assert_judged(path, batch):
    """Assert that what evaluates a file computes what it is read as."""
    expected = module_rows(load_model(path, overrides=FACTS).network, batch)
    assert off(open_embedder(path, Wanted(FACTS)).run(batch), expected) < 1e-5
