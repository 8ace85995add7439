"""Drawings are embedded on several threads as on one, and as many of them as a file needs."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from qface_toolkit.backends import BACKENDS, float_files
from qface_toolkit.evidence import collect
from qface_toolkit.evidence.embedding import BATCH_SIZE, embed_crops
from qface_toolkit.models import ModelSpec

SPEC = ModelSpec("some", (112, 112), 4)
CROPS = np.random.default_rng(0).integers(0, 256, (3 * BATCH_SIZE + 1, 112, 112, 3), np.uint8)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_rows_stand_in_the_order_of_the_crops(workers):
    seen = []

    def run(inputs):
        seen.append((len(inputs), threading.current_thread()))
        return inputs.reshape(len(inputs), -1)[:, :4]

    found = embed_crops(run, SPEC, CROPS, workers)
    assert np.array_equal(found, SPEC.preprocess(CROPS).reshape(len(CROPS), -1)[:, :4])
    assert max(size for size, _ in seen) == BATCH_SIZE
    assert (threading.current_thread() in [thread for _, thread in seen]) == (workers == 1)


@pytest.mark.parametrize(
    ("backend", "verify", "expected"),
    [
        (None, False, collect.FEWER_IMAGES),
        (None, True, collect.FEWER_IMAGES),
        ("onnx-x86", False, collect.AGREEMENT_IMAGES),
        ("onnx-arm", False, collect.FEWER_IMAGES),
        ("onnx-arm", True, collect.AGREEMENT_IMAGES),
        ("simulation", False, collect.AGREEMENT_IMAGES),
    ],
)
def test_what_estimates_gets_more_images_than_what_proves(backend, verify, expected, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    bench = SimpleNamespace(job=SimpleNamespace(verify=verify), crops=range(collect.AGREEMENT_IMAGES))
    assert collect._Files._count(bench, BACKENDS.get(backend) if backend else float_files()[0]) == expected
