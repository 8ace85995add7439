"""What runs on integers is said of the processor that it was seen on, and of no other."""

import onnxruntime
import pytest
from quantized import opened, small_model

from qface_toolkit.backends import BACKENDS, inspect_here


@pytest.mark.parametrize(
    ("machine", "seen"),
    [
        ("x86_64", {"x86": "checked on x86-64", "arm": "not checked on aarch64; this was seen on x86-64"}),
        ("aarch64", {"x86": "not checked on x86-64; this was seen on aarch64", "arm": "checked on aarch64"}),
    ],
)
def test_placement_is_checked_on_the_processor_that_a_file_is_made_for(machine, seen, tmp_path, monkeypatch):
    model = small_model("mobilefacenet")
    for kind in seen:
        opened(f"onnx-{kind}", model, tmp_path)
    monkeypatch.setattr("platform.machine", lambda: machine)
    for kind, words in seen.items():
        backend = BACKENDS.get(f"onnx-{kind}")
        found = inspect_here(backend, tmp_path / backend.artifact)
        assert found.placement == f"{words}, onnxruntime {onnxruntime.__version__}"
