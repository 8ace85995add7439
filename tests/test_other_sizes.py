"""Networks of other sizes, colours and crops through whole jobs: compressed, verified, judged, timed, lowered again."""

import json

import numpy as np
import onnx
import pytest
import torch
from helpers import measure_quickly, run_here
from PIL import Image
from torch import nn

from qface_toolkit import pipeline
from qface_toolkit.backends._float_files import export_float
from qface_toolkit.errors import QFaceError
from qface_toolkit.framing import Frame
from qface_toolkit.models import from_module, load_model
from qface_toolkit.result.opening import Wanted, open_embedder
from qface_toolkit.sources import draw

CASES = {
    "gray-32": ((32, 32), {"color": "gray", "crop": "none"}, ()),
    "wide": ((96, 112), {"color": "bgr"}, ()),
    "light": ((128, 128), {"color": "gray", "mean": 0, "std": 255}, ()),
    "light-pixels": ((128, 128), {"color": "gray", "mean": 0, "std": 255}, ("export.input=uint8",)),
    "dlib": ((150, 150), {"crop": "dlib", "mean": (122.782, 117.001, 104.298), "std": 256}, ()),
    "facenet": ((160, 160), {"crop": "facenet"}, ()),
    "largest": ((256, 256), {}, ()),
}
"""Input size, facts and settings."""


def small_network(channels):
    """Return a network for images of any size, whose statistics are those of noise."""
    torch.manual_seed(0)
    first = nn.Conv2d(channels, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8)
    second = nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU()
    ends = nn.Conv2d(8, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 8)
    network = nn.Sequential(*first, *second, *ends).train()
    with torch.no_grad():
        for _ in range(4):
            network(torch.randn(8, channels, 32, 32))
    return network.eval()


def model_of(case):
    size, facts, _ = CASES[case]
    network = small_network(1 if facts.get("color") == "gray" else 3)
    return from_module(network, input_size=size, name=case, **facts)


def compressed(folder, case):
    with pytest.MonkeyPatch.context() as patch:
        measure_quickly(patch)
        settings = ["calibration.count=16", *CASES[case][2]]
        return pipeline.compress(model_of(case), out=folder / case, recipe="int8-fast", sets=settings, threads=1)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Give a folder of drawn people, some of whose crops are larger."""
    folder = tmp_path_factory.mktemp("faces")
    for index, crop in enumerate(draw("drawings-heldout", 24)):
        picture = Image.fromarray(crop) if index % 3 else Image.fromarray(crop).resize((160, 160))
        (folder / f"p{index // 4}").mkdir(exist_ok=True)
        picture.save(folder / f"p{index // 4}" / f"{index}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_default_file_computes_what_it_should(case, tmp_path, people, monkeypatch, capsys):
    report = compressed(tmp_path, case)
    out, (size, facts, _) = tmp_path / case, CASES[case]
    names = {one.name for one in report.artifacts}
    assert names >= {"int8.x86.onnx", "int8.arm.onnx", "int8.x86.ts", "int8.qnnpack.ts"}
    assert all(one.agreement.cosine_min > 0.98 for one in report.artifacts if one.agreement)
    assert (report.source.spec.input_size, report.source.spec.crop) == (size, facts.get("crop", "arcface"))

    code, said, _ = run_here(monkeypatch, capsys, "verify", out, "--json")
    assert code == 0, said

    code, said, _ = run_here(monkeypatch, capsys, "evaluate", out, "--faces", people, "--draws", "20", "--json")
    found = json.loads(said)
    assert code == 0
    assert found["paired"]["figures"]["cosine_mean"]["value"] > 0.98
    assert "images that are not 112x112 and were resized: 8" in said


@pytest.mark.slow
@pytest.mark.parametrize("case", ["gray-32", "facenet"])
def test_facts_are_read_back_from_every_kind_of_file(case, tmp_path, monkeypatch, capsys):
    compressed(tmp_path, case)
    out, spec = tmp_path / case, model_of(case).spec
    facts = {one.key: one.value for one in onnx.load(out / "int8.x86.onnx").metadata_props}
    assert (facts["qface.crop"], facts["qface.color"]) == (spec.crop, spec.color)
    for name in ("int8.x86.onnx", "int8.x86.ts", "float.onnx"):
        opened = open_embedder(out / name, Wanted({})).spec
        assert (opened.input_shape, opened.crop, opened.mean) == (spec.input_shape, spec.crop, spec.mean), name
    asked = ("--backend", "onnx-arm", "--set", "target.onnxruntime=1.18", "--force")
    assert run_here(monkeypatch, capsys, "export", out, *asked)[0] == 0
    timed = pipeline.benchmark([out], rounds=3)
    assert {"int8.x86.onnx", "int8.x86.ts"} <= {one.name for one in timed.models}


@pytest.mark.slow
def test_images_are_drawn_in_the_models_frame(tmp_path):
    compressed(tmp_path, "dlib")
    told = json.loads((tmp_path / "dlib" / "manifest.json").read_text())["calibration"]
    assert (told["parameters"]["crop"], told["parameters"]["size"]) == ("dlib", [150, 150])
    golden = np.load(tmp_path / "dlib" / "golden.npz")["inputs"]
    drawn = draw("drawings-heldout", 8, Frame("dlib", (150, 150)))
    assert np.array_equal(golden, model_of("dlib").spec.preprocess(drawn))


@pytest.mark.slow
def test_who_did_not_name_the_crop_is_told_where_it_matters():
    network = small_network(3)

    def told(*sets):
        return [one for one in pipeline.plan_job(network, sets=sets).model.warnings if "how faces stand" in one]

    assert told() == told("model.input_size=[112, 96]") == []
    assert "model.crop=none shrinks the whole crop" in told("model.input_size=[64, 64]")[0]
    assert "others are --set model.crop=facenet, dlib or none" in told("model.input_size=[160, 160]")[0]
    assert told("model.input_size=[160, 160]", "model.crop=arcface") == []


def test_who_judges_somebodys_file_is_told_too(tmp_path):
    model, file = model_of("largest"), tmp_path / "someones.onnx"
    file.write_bytes(export_float(model.network, model.spec, {}))
    facts = {"mean": 127.5, "std": 127.5, "color": "rgb"}
    (note,) = open_embedder(file, Wanted(facts)).notes
    assert "how faces stand in images of 256x256 pixels" in note
    assert open_embedder(file, Wanted(facts | {"crop": "none"})).notes == ()


def test_facts_that_do_not_fit_the_network_are_refused_at_once():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 8), nn.Flatten(), nn.Linear(4 * 14 * 14, 8))
    with pytest.raises(QFaceError, match="cannot take"):
        pipeline.plan_job(network, sets=["model.input_size=[160, 160]"])
    with pytest.raises(QFaceError, match="cannot take"):
        from_module(network).with_facts({"color": "gray"})
    with pytest.raises(QFaceError, match=r"cannot take images \[3, 128, 128\]"):
        load_model("demo", overrides={"input_size": [128, 128]})
