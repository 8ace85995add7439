"""The simulation as a file: it computes what integers would, for widths that no runtime holds, and trusts nobody."""

import json

import numpy as np
import pytest
from quantized import cosines, opened, run, small_model, smooth_images
from safetensors.torch import load, save_file

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.graph import operation
from qface_toolkit.errors import ArtifactError, MeasurementError
from qface_toolkit.evidence.counted_sizes import nominal_bytes, stored_bytes
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.quantize.simulated import KEY, file_bytes
from qface_toolkit.quantize.target import ONNX
from qface_toolkit.result.made import Coded

BACKEND = BACKENDS.get("simulation")


@pytest.fixture(scope="module")
def small():
    model = small_model("mobilefacenet")
    return model, smooth_images(model.spec.input_size)


def narrow(model, bits):
    """Return a model whose layers all have weights of so many bits."""
    layers = [node.name for node in model.network.graph.nodes if operation(node) in ("conv", "linear")]
    return model.with_weight_bits(dict.fromkeys(layers, bits))


def test_it_computes_what_integers_would_to_the_bit(small, tmp_path):
    model, images = small
    assert (opened("simulation", model, tmp_path)(images) == embed_as_integers(model, ONNX, images)).all()


def test_narrow_weights_are_narrow_in_the_file_too(small, tmp_path):
    model, images = small
    narrower, expected = narrow(model, 3), run(model.network, images)
    got = opened("simulation", narrower, tmp_path)(images)
    assert (got == embed_as_integers(narrower, ONNX, images)).all()
    wide = opened("simulation", model, tmp_path)(images)
    assert cosines(got, expected).mean() < cosines(wide, expected).mean() - 1e-3


def test_the_same_model_gives_the_same_bytes(small):
    assert BACKEND.lower(small[0], {"a": "b", "c": "d"}) == BACKEND.lower(small[0], {"c": "d", "a": "b"})


def test_the_file_says_how_images_are_prepared(small, tmp_path):
    opened("simulation", small[0], tmp_path)
    assert BACKEND.read(tmp_path / BACKEND.artifact).spec == small[0].spec


def test_nothing_runs_on_integers(small, tmp_path):
    opened("simulation", small[0], tmp_path)
    fusion = BACKEND.inspect(tmp_path / BACKEND.artifact)
    assert not fusion.quantized and fusion.counts["conv"] > 0
    with pytest.raises(MeasurementError):
        BACKEND.codes(tmp_path / BACKEND.artifact, *small)


def deep(levels):
    found = []
    for _ in range(levels):
        found = [found]
    return found


DAMAGE = {
    "another version": lambda told: told["description"].update(version=99),
    "no ranges": lambda told: told["description"].update(ranges={}),
    "another network": lambda told: told["description"]["network"].pop(3),
    "no description": lambda told: told.pop("description"),
    "another kind": lambda told: told.update(kind="other"),
    "a number": lambda told: told.update(description=3),
    "too deep": lambda told: told["description"].update(ranges=deep(700)),
    "no width": lambda told: told["description"]["scheme"]["weights"].update(bits=1e300),
    "images larger than any": lambda told: told["description"]["spec"].update(input_size=[20000, 20000]),
    "no deviation": lambda told: told["description"]["spec"].update(std=[0, 1, 1]),
    "another colour": lambda told: told["description"]["spec"].update(color="xyz"),
    "endless ranges": lambda told: told["description"]["ranges"].update(
        dict.fromkeys(told["description"]["ranges"], [-1e308, 1e308])
    ),
    "endless widths": lambda told: told["description"]["scheme"].update(
        layers=[{"match": f"*a*{number}", "weights": 4} for number in range(20_000)]
    ),
    "a match of nothing": lambda told: told["description"]["scheme"].update(layers=[{"match": 3, "weights": 4}]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_description_is_refused(name, small, tmp_path):
    data = BACKEND.lower(small[0], {})
    told = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"][KEY])
    DAMAGE[name](told)
    file = tmp_path / BACKEND.artifact
    file.write_bytes(file_bytes(load(data), told))
    with pytest.raises(ArtifactError) as caught:
        BACKEND.open(file, threads=1)
    assert caught.value.where == str(file)


def test_weights_that_are_no_numbers_are_refused(small, tmp_path):
    data = BACKEND.lower(small[0], {})
    tensors, metadata = load(data), json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, tmp_path / BACKEND.artifact, metadata=metadata)
    with pytest.raises(ArtifactError, match="no finite numbers"):
        BACKEND.open(tmp_path / BACKEND.artifact, threads=1)


def test_other_weights_are_refused(small, tmp_path):
    data = BACKEND.lower(small[0], {})
    tensors = load(data)
    tensors.pop(next(iter(tensors)))
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    save_file(tensors, tmp_path / BACKEND.artifact, metadata=metadata)
    with pytest.raises(ArtifactError, match="damaged"):
        BACKEND.open(tmp_path / BACKEND.artifact, threads=1)


def test_codes_are_packed_with_their_grids():
    weights, slopes = Coded(101, 6, 4, zero_points=True), Coded(7, 3, 1, zero_points=False)
    packed = int(np.ceil((101 + 4) * 6 / 8)) + 16
    assert stored_bytes([weights], 0) == packed
    assert stored_bytes([slopes], 0) == 3 + 4
    assert stored_bytes([weights, slopes], floats=5) == packed + 7 + 20
    assert nominal_bytes([(108, 6), (10, 32)]) == 108 * 6 // 8 + 40
