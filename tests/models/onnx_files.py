"""ONNX files as others write them, exported by torch or put together by hand, and what ONNX Runtime computes."""

import io
import warnings
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models import load_model

GIVEN = {"mean": 127.5, "std": 128.0, "color": "rgb"}
"""Facts for files that do not say them."""
RELATIVE = 1e-5


def export(network, size, *, opset=17, batch="batch", names=("input", "embedding"), dynamo=False, **options):
    """Return the ONNX file that torch's tracing exporter makes of a network, or the newer one, which sees its code.

    `batch` None fixes it at one image.
    """
    buffer = io.BytesIO()
    axes = {name: {0: batch} for name in names} if batch and not dynamo else None
    if dynamo:
        options = {"dynamic_shapes": ({0: torch.export.Dim(batch)},), "verbose": False, **options}
    probe = torch.zeros(2 if batch else 1, 3, *size)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (probe,),
            buffer,
            dynamo=dynamo,
            opset_version=opset,
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes=axes,
            **options,
        )
    return buffer.getvalue()


_SEED = np.random.PCG64(0).state
_DRAW = np.random.Generator(np.random.PCG64(0))


def draw_anew():
    """Begin again with what `draw` and `positive` give: before each test, and before the tables of each test file."""
    _DRAW.bit_generator.state = _SEED


def draw(*shape):
    """Return weights of a shape."""
    return _DRAW.standard_normal(shape).astype(np.float32)


def positive(*shape):
    """Return variances of a shape."""
    return _DRAW.random(shape).astype(np.float32) + 0.1


def ints(*values):
    """Return a constant that says where, not how much."""
    return np.array(values, np.int64)


def build(nodes, constants=(), *, shape=("N", 3, 8, 8), opset=17, outputs=None, kind=TensorProto.FLOAT, **options):
    """Return an ONNX file of these nodes, which read "x" and make "y", unless `outputs` says otherwise."""
    tensors = [numpy_helper.from_array(np.asarray(values), name) for name, values in dict(constants).items()]
    ends = [helper.make_tensor_value_info(name, kind, axes) for name, axes in (outputs or {"y": ("N", None)}).items()]
    image = helper.make_tensor_value_info("x", kind, shape)
    for name, times in Counter(one.name for one in nodes).items():
        twins = [one for one in nodes if one.name == name] if name.startswith("the ") and times > 1 else []
        for number, one in enumerate(twins):
            one.name = f"{name} {number}"  # onnxruntime wants names to differ
    graph = helper.make_graph(nodes, "net", [image], ends, tensors)
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=options.pop("ir_version", 8), **options)


def node(op, inputs, outputs, **attributes):
    """Return a node; inputs and outputs are names with spaces between."""
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), name=f"the {op}", **attributes)


FLAT = node("Flatten", "z", "y")
RELU = node("Relu", "x", "z")
LAST = node("Transpose", "x", "t", perm=[0, 2, 3, 1])


def load(folder, nodes, constants=(), *, given=(), **options):
    """Return the network that a file of these nodes becomes, once onnx's own checker has passed the file."""
    path = write(folder / "net.onnx", checked(build(nodes, constants, **options)))
    return load_model(path, overrides={**GIVEN, **dict(given)})


def write(path, model):
    """Write a model, or its bytes, and return the path."""
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def refuse(path, model, match, error=CheckpointError):
    """Assert that the file is refused for this reason, naming the file and a next step, and return the message."""
    with pytest.raises(error, match=match) as caught:
        load_model(write(path / "net.onnx", model), overrides=GIVEN)
    assert str(path / "net.onnx") in caught.value.where
    assert caught.value.fix
    return str(caught.value)


def pictures(size, count, seed=0, channels=3):
    """Return preprocessed-looking images, float32 [count, channels, height, width]."""
    return np.random.default_rng(seed).standard_normal((count, channels, *size)).astype(np.float32)


def original(path, images, output=None, *, one_by_one=False, channels_last=False):
    """Return what ONNX Runtime computes with the file, image by image if the file insists on one or is said to."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    images = images.transpose(0, 2, 3, 1) if channels_last else images
    single = one_by_one or entry.shape[0] == 1
    steps = [images[at : at + 1] for at in range(len(images))] if single else [images]
    half = entry.type == "tensor(float16)"
    names = [output or session.get_outputs()[0].name]
    outputs = [session.run(names, {entry.name: step.astype(np.float16) if half else step})[0] for step in steps]
    return np.concatenate(
        [output.astype(np.float32).reshape(len(step), -1) for output, step in zip(outputs, steps, strict=True)]
    )


def difference(path, model, counts=(1, 3), **options):
    """Return the largest difference between an imported network and ONNX Runtime, as a share of the largest number."""
    largest = 0.0
    for count in counts:
        images = pictures(model.spec.input_size, count, channels=model.spec.channels)
        expected = original(path, images, **options)
        with torch.no_grad():
            found = model.network(torch.from_numpy(images)).numpy()
        assert found.shape == expected.shape == (count, model.spec.embedding_size)
        largest = max(largest, float(abs(found - expected).max() / (abs(expected).max() or 1)))
    return largest


def assert_same(path, model, counts=(1, 3), most=RELATIVE, **options):
    """Assert that an imported network computes what ONNX Runtime does; see `original` for the options."""
    off = difference(path, model, counts, **options)
    assert off < most, f"off by {off:.2e}"


def functions(model):
    """Return the names of the modules and functions of an imported network, in order."""
    graph = model.network.graph
    names = {
        "call_module": lambda n: type(model.network.get_submodule(n.target)).__name__,
        "call_function": lambda n: n.target.__name__,
    }
    return [names[n.op](n) for n in graph.nodes if n.op in names]


def checked(model):
    """Return a model after onnx's own checker has passed it, so that a test's file is what it claims to be."""
    onnx.checker.check_model(model)
    return model
