"""The float reference: the same function as the network, for any batch size."""

import onnx
import pytest
from quantized import run, small_network, smooth_images, trained
from spelled_networks import SPELLED_NETWORKS
from torch import nn

from qface_toolkit.backends._float_files import FLOAT_FILES, export_float
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.errors import UnsupportedModel
from qface_toolkit.models import FloatModel, ModelSpec


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


@pytest.mark.parametrize(
    "name",
    [
        "windows counted in Python",
        "tokens first",
        "root mean square",
        "halves by places",
        "norm of responses and power pool",
    ],
)
def test_what_onnx_cannot_say_is_written_in_its_canonical_form(name, tmp_path, capfd):
    network = trained(SPELLED_NETWORKS[name])
    model = FloatModel(network, ModelSpec("test", (16, 16), 8), "")
    content = FLOAT_FILES[0].write(model, canonicalise(network, (16, 16)), {})
    (tmp_path / "float.onnx").write_bytes(content)
    images = smooth_images((16, 16), 3)
    expected = run(network, images)
    got = open_onnx(tmp_path / "float.onnx", threads=1)(images)
    assert abs(got - expected).max() < 1e-4 * abs(expected).max()
    assert not any(capfd.readouterr()), "torch prints graphs that it cannot export"
