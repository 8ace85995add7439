"""Every kind of damaged, wrong or hostile file that a command may be handed, under all endings that lead to readers."""

import os
import shutil
import socket

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ENDINGS = (".onnx", ".pth", ".ts", ".safetensors", ".json", ".yaml", ".bin", ".csv")
CONTENTS = {
    "fourteen-bytes": b"\x08\x07\x12\x0cpytorch\x00\x01\x02",
    "empty": b"",
    "page": b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4000000\n",
    "noise": np.random.default_rng(0).bytes(3000),
    "letter": b"this is a letter to my aunt\n" * 20,
}
STRANGE = ("folder", "pipe", "socket", "device", "circle", "nowhere", "missing")
"""What is no file at all; "nowhere" is a link to a file that is not there."""
HOSTILE_NAME = "two\nlines \x1b[31mred\x1b[0m"


def write_contents(folder):
    """Write every content under every ending, and one of them under a name that a terminal would obey."""
    for ending in ENDINGS:
        for name, content in CONTENTS.items():
            (folder / f"{name}{ending}").write_bytes(content)
        (folder / f"{HOSTILE_NAME}{ending}").write_bytes(CONTENTS["noise"])


def write_strange(folder):
    """Put what is no file under every ending."""
    for ending in ENDINGS:
        (folder / f"folder{ending}").mkdir()
        os.mkfifo(folder / f"pipe{ending}")
        with socket.socket(socket.AF_UNIX) as made:
            here = os.open(folder, os.O_RDONLY)
            # The address of a socket is short: it is given from the folder's descriptor on.
            made.bind(f"/proc/self/fd/{here}/socket{ending}")
            os.close(here)
        (folder / f"device{ending}").symlink_to("/dev/zero")
        (folder / f"circle{ending}").symlink_to(folder / f"circle{ending}")
        (folder / f"nowhere{ending}").symlink_to(folder / "is-not-there")


def write_quarters(folder, source):
    """Write a file cut short at each quarter."""
    data = source.read_bytes()
    for quarter in (1, 2, 3):
        file = folder / f"quarter-{quarter}-of-{source.name}"
        file.write_bytes(data[: len(data) * quarter // 4])


def network(outputs, *, size=112, nodes=None, weights=(), domains=()):
    """Return an ONNX model of an image, by default its mean times a matrix for each output, (name, shape)."""
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, size, size])
    shown = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs]
    given = list(weights)
    if nodes is None:
        nodes = [
            helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
        ]
        for name, shape in outputs:
            given.append(numpy_helper.from_array(np.full((3, shape[1]), 0.1, np.float32), f"w.{name}"))
            nodes.append(helper.make_node("MatMul", ["flat", f"w.{name}"], [name]))
    graph = helper.make_graph(nodes, "net", [image], shown, given)
    imports = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def detector():
    """Return what finds faces: scores and boxes at many places."""
    nodes = [
        helper.make_node("Conv", ["input", "k.scores"], ["scores"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Conv", ["input", "k.boxes"], ["boxes"], kernel_shape=[3, 3], pads=[1] * 4),
    ]
    kernels = [("k.scores", 1), ("k.boxes", 4)]
    weights = [numpy_helper.from_array(np.full((count, 3, 3, 3), 0.1, np.float32), name) for name, count in kernels]
    outputs = [("scores", ["N", 1, 112, 112]), ("boxes", ["N", 4, 112, 112])]
    return network(outputs, nodes=nodes, weights=weights)


def custom_operator():
    """Return a network with an operator that no runtime knows."""
    nodes = [helper.make_node("Fold", ["input"], ["embedding"], domain="com.example")]
    return network([("embedding", ["N", 64])], nodes=nodes, domains=["com.example"])


def quantized_elsewhere():
    """Return a QDQ file of another tool, which says nothing of images."""
    grid = [numpy_helper.from_array(np.float32(0.02), "s"), numpy_helper.from_array(np.uint8(128), "z")]
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["embedding"]),
    ]
    weights = [*grid, numpy_helper.from_array(np.full((3, 64), 0.1, np.float32), "w")]
    return network([("embedding", ["N", 64])], nodes=nodes, weights=weights)


def with_external(**entries):
    """Return a network whose matrix is said to stand in another file, at this place."""
    model = network([("embedding", ["N", 64])])
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return model


MODELS = {
    "detector": detector,
    "age": lambda: network([("age", ["N", 1])]),
    "age-and-sex": lambda: network([("scores", ["N", 3])]),
    "larger-input": lambda: network([("embedding", ["N", 64])], size=160),
    "custom-operator": custom_operator,
    "quantized-elsewhere": quantized_elsewhere,
    "weights-missing": lambda: with_external(location="is-not-there.bin"),
    "weights-in-a-pipe": lambda: with_external(location="pipe.bin"),
    "weights-outside": lambda: with_external(location="../../etc/passwd"),
    "weights-below-zero": lambda: with_external(location="noise.bin", length="-4"),
    "weights-from-below-zero": lambda: with_external(location="noise.bin", offset="-4", length="768"),
    "weights-too-far": lambda: with_external(location="noise.bin", offset="9" * 18, length="768"),
    "weights-of-many-digits": lambda: with_external(location="noise.bin", offset="1" * 5000),
    "no-nodes": lambda: network([("embedding", ["N", 64])], nodes=[]),
}


def write_models(folder):
    """Write networks that are whole and of the wrong kind, or whose weights are not where they should be."""
    for name, make in MODELS.items():
        onnx.save(make(), folder / f"{name}.onnx")


def write_all(folder, finished):
    """Write everything into a folder; `finished` holds tiny.pth and a result of it. Return the names that are there."""
    write_contents(folder)
    write_strange(folder)
    write_models(folder)
    for name in ("float.onnx", "int8.x86.onnx", "int8.x86.ts", "model.safetensors", "report.json"):
        write_quarters(folder, finished / "out" / name)
    write_quarters(folder, finished / "tiny.pth")
    shutil.copy(finished / "out" / "int8.x86.onnx", folder / "int8.x86.onnx")
    return sorted({path.name for path in folder.iterdir()} | {f"missing{ending}" for ending in ENDINGS})
