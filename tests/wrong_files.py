"""Results with one genuinely wrong file, whose manifest fits it: what hashes cannot tell and golden vectors must."""

import functools
import hashlib
import io
import itertools
import json
import os
import zlib

import numpy as np
import onnx
from odd_networks import ISLAND_NETWORKS
from onnx import numpy_helper
from quantized import calibrated, run, small_model, small_network, smooth_images, trained
from token_networks import TOKEN_NETWORKS

from qface_toolkit.backends import BACKENDS
from qface_toolkit.models import load_model
from qface_toolkit.result.expected import expected_of
from qface_toolkit.result.golden import verifier_source
from qface_toolkit.sources import draw
from qface_toolkit.verifier import FLOAT, INPUTS, MANIFEST

DEMO = "demo"
OF_INTEGERS = ("mobilefacenet", "mobilefacenet-relu6", "quantface", "mbf", "iresnet", "irse")
"""Small networks of which every number follows to the bit, but for the tables of the last."""
WITH_ISLANDS = ("transformer", "attention between channels", "attention by a module", "mixer", "islands", "quotient")
WITH_FLOATS = tuple(name for name in WITH_ISLANDS if name != "quotient")
"""Networks that compute in float between their integers, of those in token_networks and odd_networks."""

_QUANTIZED = ("QuantizeLinear", "DequantizeLinear")


def _stored(model, kind):
    """Return the constants with several numbers of a kind."""
    arrays = [(tensor, numpy_helper.to_array(tensor)) for tensor in model.graph.initializer]
    scales = {node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    fit = {
        "weights": lambda name, array: array.dtype == np.int8 and array.ndim > 1,
        "biases": lambda name, array: array.dtype == np.int32 and array.ndim == 1,
        "scales": lambda name, array: name in scales and array.ndim == 1,
        "floats": lambda name, array: array.dtype == np.float32 and array.ndim > 0 and name not in scales,
    }[kind]
    return [one for one in arrays if one[1].size > 1 and one[1].any() and fit(one[0].name, one[1])]


def _put(tensor, array):
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


def _pick(draw, choices):
    return choices[draw.integers(len(choices))]


def _changed(kind, change):
    """Return a damage that changes one number among constants of a kind."""

    def damage(model, draw):
        tensor, array = _pick(draw, _stored(model, kind))
        array = array.copy()
        change(array, draw)
        _put(tensor, array)

    return damage


def _own_constant(change, place):
    """Return a damage that gives one quantizer, or whoever takes its codes apart, a constant of its own."""

    def damage(model, draw):
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        nodes = [node for node in model.graph.node if node.op_type in _QUANTIZED and len(node.input) > 2]
        node = _pick(draw, [node for node in nodes if stored[node.input[place]].ndim == 0])
        array = change(stored[node.input[place]])
        node.input[place] = "changed"
        model.graph.initializer.append(numpy_helper.from_array(array, "changed"))

    return damage


def _sign(array, draw):
    flat = array.reshape(-1)
    flat[_pick(draw, np.flatnonzero(flat))] *= -1


def _channel(array, draw):
    array[draw.integers(len(array))] *= -1


def _swap(array, draw):
    places = draw.choice(len(array), 2, replace=False)
    array[places] = array[places[::-1]]


def _larger(array, draw):
    array[draw.integers(len(array))] *= np.float32(1.02)


def _element(array, draw):
    flat = array.reshape(-1)
    flat[_pick(draw, np.flatnonzero(flat))] *= np.float32(1.02)


def _biased(array, draw):
    array[draw.integers(len(array))] += max(1, abs(array).max() // 50)


FLOAT_DAMAGES = {
    "a float": _changed("floats", _element),
    "the sign of a float": _changed("floats", _sign),
}
"""What is changed where a file computes in float, besides."""

DAMAGES = {
    "a scale of a channel": _changed("scales", _larger),
    "a scale of a tensor": _own_constant(lambda scale: np.float32(scale * np.float32(1.02)), 1),
    "a zero point": _own_constant(lambda zero: (zero.astype(int) + (1 if zero < 100 else -1)).astype(zero.dtype), 2),
    "the sign of a weight": _changed("weights", _sign),
    "the sign of a channel": _changed("weights", _channel),
    "two channels": _changed("weights", _swap),
    "a bias": _changed("biases", _biased),
}
"""What is changed in a QDQ file: name -> a function of the model and a generator of numbers."""


def damaged(model, damage, seed):
    """Return a copy of a file with some damage."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    damage(copy, np.random.default_rng(seed))
    return copy


@functools.cache
def subject(network, backend):
    """Return the file of a network by a backend, and the golden vectors that a result would hold of it."""
    model, inputs = _calibrated(network)
    entry = BACKENDS.get(backend)
    golden = {INPUTS: inputs, FLOAT: run(model.network, inputs)}
    return entry.lower(model, {}), golden | expected_of(entry, model, inputs)


@functools.cache
def _calibrated(network):
    """Return the model of a network and golden images; of the demo model, which is larger, two of them."""
    if network == DEMO:
        model = load_model(DEMO)
        images = model.spec.preprocess(draw("drawings", 18, model.spec.frame))
        return calibrated(model.network, model.spec.input_size, images[2:]), images[:2]
    size = (16, 16) if network in WITH_ISLANDS else small_network(network)[1]
    inputs = smooth_images(size, 8, seed=5)
    if network not in WITH_ISLANDS:
        return small_model(network), inputs
    return calibrated(trained((TOKEN_NETWORKS | ISLAND_NETWORKS)[network]), size), inputs


def write_result(folder, file, content, golden):
    """Write a result that holds one file and what it must give."""
    folder.mkdir(parents=True)
    (folder / file).write_bytes(content)
    if isinstance(golden, dict):
        buffer = io.BytesIO()
        np.savez(buffer, **golden)
        (folder / "golden.npz").write_bytes(buffer.getvalue())
        (folder / "verify.py").write_bytes(verifier_source())
    else:
        for name in ("golden.npz", "verify.py"):
            os.link(golden / name, folder / name)
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size_bytes": path.stat().st_size}
        for path in folder.iterdir()
    }
    (folder / MANIFEST).write_text(json.dumps({"version": 1, "made_by": "qface_toolkit", "files": files}))


def write_wrong(root, networks, backends, each):
    """Write results with a wrong file each, `each` for every kind of damage, and the sound ones that they were.

    They are called "NETWORK, BACKEND, DAMAGE"; the sound ones are named behind "sound".
    """
    for network, backend in itertools.product(networks, backends):
        content, golden = subject(network, backend)
        file, sound = BACKENDS.get(backend).artifact, root / f"sound {network}, {backend}"
        write_result(sound, file, content, golden)
        for what, changed in _changes(network, backend, each):
            write_result(root / f"{network}, {backend}, {what}", file, changed, sound)


def _changes(network, backend, each):
    """Yield what is wrong with a file, and its bytes; a packed file is packed after the damage."""
    entry = BACKENDS.get(backend)
    plain = onnx.load_from_string(subject(network, backend.replace("packed-", ""))[0])
    for kind, damage in (DAMAGES | (FLOAT_DAMAGES if network in WITH_FLOATS else {})).items():
        for number in range(each):
            seed = zlib.crc32(f"{network} {backend} {kind} {number}".encode())
            yield f"{kind} {number}", entry.form(damaged(plain, damage, seed)).SerializeToString()
    yield "another network", subject(_another(network), backend)[0]
    yield "the twin", subject(network, backend.replace(entry.engine, "arm" if entry.engine == "x86" else "x86"))[0]


def _another(network):
    kin = WITH_ISLANDS if network in WITH_ISLANDS else OF_INTEGERS
    return kin[(kin.index(network) + 1) % len(kin)] if network in kin else kin[0]
