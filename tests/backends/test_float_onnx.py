"""The float reference: the same function as the network, for any batch size."""

import onnx
import pytest
from quantized import run, small_network, smooth_images
from torch import nn

from qface_toolkit.backends._float_files import export_float
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.errors import UnsupportedModel
from qface_toolkit.models import ModelSpec


@pytest.mark.parametrize("name", ["mobilefacenet", "mobilefacenet-relu6", "iresnet"])
def test_the_reference_computes_what_the_network_does(name, tmp_path):
    network, size = small_network(name)
    content = export_float(network, ModelSpec("test", size, 16), {"fact": "value"})
    (tmp_path / "float.onnx").write_bytes(content)
    embed = open_onnx(tmp_path / "float.onnx", threads=1)
    for count in (1, 5):
        images = smooth_images(size, count)
        expected = run(network, images)
        error = abs(embed(images) - expected).max() / abs(expected).max()
        assert error < 1e-4, f"off by {error:.2e} with a batch of {count}"
    model = onnx.load_from_string(content)
    assert [model.graph.input[0].name, model.graph.output[0].name] == ["input", "embedding"]
    assert {entry.key: entry.value for entry in model.metadata_props} == {"fact": "value"}
    assert export_float(network, ModelSpec("test", size, 16), {"fact": "value"}) == content


def test_what_onnx_cannot_say_is_refused():
    class Strange(nn.Module):
        def forward(self, x):
            return x.flatten(1).quantile(0.5, dim=1, keepdim=True)

    with pytest.raises(UnsupportedModel, match="cannot export"):
        export_float(Strange(), ModelSpec("test", (8, 8), 1), {})
