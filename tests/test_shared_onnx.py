"""The ONNX files of the real checkpoints: integers throughout, twins that agree, forms that compute the same."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from quantized import cosines
from test_shared import PRELU, RELU6, SHARED, compressed_once, tell

from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.pipeline import export
from qface_toolkit.quantize.model import embed, load_quantized
from qface_toolkit.quantize.plan import everywhere
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import ONNX
from qface_toolkit.sources._sets import find_set

RELU6_ONNX = "mobilefacenet_relu6_112.onnx"
IMAGES = 48
FLOAT = {"Conv", "FusedConv", "PRelu", "BatchNormalization", "Add", "Mul"}

pytestmark = [
    pytest.mark.shared,
    pytest.mark.slow,
    pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="../shared with the real checkpoints is not here"),
]


@pytest.fixture(scope="module")
def results(made_once, tmp_path_factory):
    """Give a copy of the result of every checkpoint, to which files can be added."""
    folder = tmp_path_factory.mktemp("onnx")
    return {name: made_from(name, made_once, folder / name) for name in (PRELU, RELU6, RELU6_ONNX)}


@pytest.fixture(params=[PRELU, RELU6, RELU6_ONNX])
def result(request, results):
    """Give the ONNX files of one checkpoint."""
    return results[request.param]


def made_from(checkpoint, made_once, folder):
    made = compressed_once(made_once, checkpoint)
    made.name, made.out = checkpoint, shutil.copytree(made.out, folder)
    made.model = load_quantized(made.out / "quantization.json", made.out / "model.safetensors")
    images = find_set("drawings-heldout").open(count=IMAGES)
    made.inputs = made.model.spec.preprocess(np.stack([images.crop(index) for index in range(IMAGES)]))
    return made


def opened(result, backend, name=None):
    chosen = BACKENDS.get(backend)
    return chosen.open(result.out / (name or chosen.artifact), threads=2)


def onnx_figures(result):
    """Return what the report says of the twins."""
    found = [one for one in result.report.artifacts if one.name in ("int8.x86.onnx", "int8.arm.onnx")]
    assert len(found) == 2
    return found


def test_every_convolution_runs_on_integers(result, capsys):
    for backend in ("onnx-x86", "onnx-arm"):
        found = BACKENDS.get(backend).inspect(result.out / BACKENDS.get(backend).artifact)
        operators = {kind.kind: kind.count for kind in found.kinds()}
        tell(capsys, f"{result.name} {backend}", operators)
        assert not FLOAT & set(operators), operators
    for figures in onnx_figures(result):
        assert figures.integer_convolutions == figures.convolutions > 0
        assert not figures.islands


def test_twins_of_one_form_give_the_same_embeddings(result, tmp_path, capsys):
    model = result.model.with_forms(everywhere(result.model.plan.forms["x86"]))
    (tmp_path / "arm.onnx").write_bytes(BACKENDS.get("onnx-arm").lower(model, {}))
    x86 = opened(result, "onnx-x86")(result.inputs)
    arm = BACKENDS.get("onnx-arm").open(tmp_path / "arm.onnx", 1)(result.inputs)
    agreement = cosines(x86, arm)
    tell(capsys, f"{result.name}, x86 twin to ARM twin", f"mean {agreement.mean():.6f} lowest {agreement.min():.6f}")
    assert agreement.min() >= 0.9999


def test_files_agree_with_their_simulation(result, capsys):
    for figures in onnx_figures(result):
        tell(capsys, f"{result.name} {figures.name}, to its simulation", figures.simulation_agreement.cosine_mean)
        assert figures.simulation_agreement.cosine_mean >= 0.9999


def test_the_file_is_small(result, capsys):
    ratio = (result.out / "int8.x86.onnx").stat().st_size / (result.out / "float.onnx").stat().st_size
    tell(capsys, f"{result.name}, int8.x86.onnx / float.onnx", f"{ratio:.4f}")
    assert ratio <= 0.29


def test_fast_prelu_costs_no_accuracy_against_prelu_in_float(results, capsys):
    """PReLU in a float island rounds its input and its output; the integer forms must not be worse than that."""
    result = results[PRELU]
    free = dict.fromkeys(result.model.plan.forms["x86"], "scaled")
    split = result.model.with_forms(everywhere(free))
    apart = {machine: replace(codes, grids={}) for machine, codes in split.plan.codes.items()}
    island = replace(split, plan=replace(split.plan, codes=apart))
    reference = result.model.embed(result.inputs)
    in_float, ours = (
        cosines(embed(prepare(model, ONNX), result.inputs), reference).mean() for model in (island, result.model)
    )
    tell(capsys, f"{result.name}, mean cosine with PReLU in float and in integers", f"{in_float:.5f} {ours:.5f}")
    assert ours >= in_float - 0.002


def test_the_form_for_older_runtimes_gives_the_same_embeddings(result):
    export(result.out, "onnx-x86", sets=["target.onnxruntime=1.18"], name="int8.x86.old.onnx")
    assert np.array_equal(
        opened(result, "onnx-x86", "int8.x86.old.onnx")(result.inputs[:8]),
        opened(result, "onnx-x86")(result.inputs[:8]),
    )


def test_pixels_as_input_agree_with_the_float_model(result, capsys):
    export(result.out, "onnx-x86", sets=["export.input=uint8"], name="int8.pixels.onnx")
    given = opened(result, "onnx-x86", "int8.pixels.onnx")(result.inputs)
    reference = open_onnx(result.out / "float.onnx", 2)(result.inputs)
    both = [cosines(one, reference).mean() for one in (given, opened(result, "onnx-x86")(result.inputs))]
    tell(capsys, f"{result.name}, mean cosine from pixels and from floats", f"{both[0]:.5f} {both[1]:.5f}")
    assert both[0] >= both[1] - 0.002


def test_without_vnni_the_file_agrees_with_its_simulation(result, capsys):
    export(result.out, "onnx-x86", sets=["target.vnni=false"], name="int8.old-cpu.onnx")
    model = replace(result.model, deployment=replace(result.model.deployment, vnni=False))
    given = opened(result, "onnx-x86", "int8.old-cpu.onnx")(result.inputs[:8])
    agreement = cosines(given, embed_as_integers(model, ONNX, result.inputs[:8]))
    tell(capsys, f"{result.name} without VNNI, to its simulation", f"{agreement.min():.6f}")
    assert agreement.min() >= 0.9999


def test_a_file_and_a_checkpoint_of_one_network_give_one_result(results):
    """The ReLU6 network comes as a checkpoint and as an ONNX file; both floats agree, so must both int8 files."""
    first, second = (opened(results[name], "onnx-x86")(results[RELU6].inputs) for name in (RELU6, RELU6_ONNX))
    assert cosines(first, second).mean() >= 0.99, "two roundings of one network"
