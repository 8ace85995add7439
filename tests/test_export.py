"""Where a result will run: recipe keys that reach the files, and lowering again for somewhere else."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from finished_folders import intact
from helpers import EMBEDDING, SMALL_SETS, contents, fill_disk, run_apart, run_here
from quantized import cosines
from tiers import in_tiers
from torch import nn

import qface_toolkit as qf
from qface_toolkit import pipeline
from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends._profile import inspect_onnx
from qface_toolkit.errors import ArtifactError, RecipeError, UnsupportedModel
from qface_toolkit.quantize.model import load_quantized
from qface_toolkit.result.manifest import read_manifest

ELSEWHERE = ("target.onnxruntime=1.18", "target.vnni=false", "export.input=uint8")


pytestmark = pytest.mark.usefixtures("measured_quickly")


@pytest.fixture(scope="module")
def here(finished):
    """A result for the usual machine."""
    return finished / "out"


@pytest.fixture(scope="module")
def elsewhere(checkpoint, tmp_path_factory):
    """A result for an old runtime on an old machine, and the report; its files take pixels."""
    out = tmp_path_factory.mktemp("elsewhere") / "out"
    backends = ["onnx-x86", "onnx-arm", "torch-onednn"]
    return out, qf.compress(checkpoint, out=out, recipe="int8-fast", sets=[*SMALL_SETS, *ELSEWHERE], backends=backends)


@pytest.fixture
def copy(here, tmp_path):
    return Path(shutil.copytree(here, tmp_path / "copy"))


def metadata(file):
    return {entry.key: entry.value for entry in onnx.load(file).metadata_props}


@pytest.mark.slow
def test_the_recipe_reaches_the_files(elsewhere):
    out, report = elsewhere
    model = load_quantized(out / "quantization.json", out / "model.safetensors")
    assert (model.deployment.vnni, model.deployment.onnxruntime, model.deployment.image) == (False, "1.18", "uint8")
    for name in ("int8.x86.onnx", "int8.arm.onnx"):
        told = metadata(out / name)
        assert (told["qface.onnxruntime"], told["qface.input"]) == ("1.18.0", "uint8 NHWC RGB 0..255")
        assert "Max" not in inspect_onnx(out / name).counts
    assert report.recipe.values["target"]["onnxruntime"] == "1.18"


@pytest.mark.slow
def test_every_file_of_a_result_that_takes_pixels_gives_what_its_ranges_say(elsewhere):
    _, report = elsewhere
    quantized = [figures for figures in report.artifacts if figures.quantized]
    assert len(quantized) == 3
    for figures in quantized:
        cosine = figures.simulation_agreement.cosine_mean
        assert cosine >= 0.9999, f"{figures.name} gives {cosine} of its simulation"


@pytest.mark.slow
def test_golden_vectors_hold_the_pixels(elsewhere):
    out, _ = elsewhere
    golden = np.load(out / "golden.npz")
    assert (golden["image"].dtype, golden["image"].shape) == (np.uint8, (8, 112, 96, 3))
    assert np.allclose((golden["image"].transpose(0, 3, 1, 2) - 127.5) / 128, golden["inputs"], atol=1e-6)
    given = onnxruntime.InferenceSession(out / "int8.x86.onnx").run(None, {"image": golden["image"]})[0]
    assert given.shape == (8, EMBEDDING)
    assert cosines(given, golden["int8.x86.onnx"]).min() > 0.9999


@pytest.mark.slow
def test_float_files_and_archives_still_take_floats(elsewhere):
    out, _ = elsewhere
    for name in ("float.onnx", "float.fast.onnx"):
        assert metadata(out / name)["qface.input"] == "float32 NCHW, (pixel - mean) / std"
        assert onnxruntime.InferenceSession(out / name).get_inputs()[0].name == "input"
    extra = {"qface.json": ""}
    torch.jit.load(out / "int8.onednn.ts", _extra_files=extra)
    assert json.loads(extra["qface.json"])["qface.input"].startswith("float32")


def test_a_network_that_cannot_take_pixels_is_refused_before_anything_is_written(tmp_path):
    network = nn.Sequential(nn.MaxPool2d(16), nn.Flatten(), nn.Linear(147, 8))
    with pytest.raises(UnsupportedModel, match="export.input=float"):
        qf.compress(network, out=tmp_path / "out", recipe="int8-fast", sets=["export.input=uint8"])
    assert not list(tmp_path.iterdir())


SETTINGS = {
    "as it is": (),
    "old runtime": ("target.onnxruntime=1.18",),
    "old machine": ("target.vnni=false",),
    "pixels": ("export.input=uint8",),
    "twins": ("target.prelu=twin",),
    "scaled": ("target.prelu=scaled",),
    "all": (*ELSEWHERE, "target.prelu=scaled"),
}


@pytest.mark.parametrize("name", in_tiers(SETTINGS, fast=("as it is", "pixels", "all")))
def test_a_file_that_was_lowered_again_gives_what_golden_npz_says(name, copy):
    sets = SETTINGS[name]
    artifact = qf.export(copy, "onnx-x86", sets=sets, name="again.onnx")
    assert artifact == copy / "again.onnx"
    golden = np.load(copy / "golden.npz")
    given = BACKENDS.get("onnx-x86").open(artifact, threads=1)(golden["inputs"])
    agreement = cosines(given, golden["again.onnx"])
    assert agreement.min() > 0.9999, f"lowest cosine {agreement.min():.6f}"
    assert cosines(given, golden["float"]).min() > 0.8
    artifacts = {BACKENDS.get(name).artifact for name in ("onnx-x86", "onnx-arm", "torch-x86", "torch-qnnpack")}
    rows = {*artifacts, "again.onnx", "int8.x86.onnx@arm", "int8.arm.onnx@x86", "again.onnx@arm"}
    inside = {f"{row}@codes" for row in rows if ".onnx" in row}
    about = {f"{name}@about" for name in rows if name.count("@") == 0}
    assert set(golden.files) - {"image"} == {"inputs", "float", "float@double", *rows, *inside, *about}
    assert ("image" in golden.files) == ("export.input=uint8" in sets)
    chosen = set(json.loads((copy / "quantization.json").read_text())["plan"]["forms"]["x86"].values())
    same = sets == () or chosen in [{form} for form in ("twin", "scaled") if sets == (f"target.prelu={form}",)]
    assert (artifact.read_bytes() == (copy / "int8.x86.onnx").read_bytes()) == same


@pytest.mark.slow
def test_without_settings_a_result_is_lowered_as_it_was(elsewhere, tmp_path):
    again = shutil.copytree(elsewhere[0], tmp_path / "copy")
    artifact = qf.export(again, "onnx-x86", name="again.onnx")
    assert artifact.read_bytes() == (Path(again) / "int8.x86.onnx").read_bytes()


def test_the_forms_of_prelu_are_those_asked_for(copy):
    convolutions = {}
    for form in ("twin", "scaled"):
        artifact = qf.export(copy, "onnx-x86", sets=[f"target.prelu={form}"], name=f"{form}.onnx")
        nodes = [node for node in onnx.load(artifact).graph.node if node.op_type == "Conv"]
        convolutions[form] = sum(len(node.input) == 2 for node in nodes)  # what scales has no bias
        assert not {"Conv", "PRelu"} & inspect_onnx(artifact).counts.keys()
    assert convolutions["scaled"] > convolutions["twin"] == 0, convolutions


def test_the_manifest_knows_what_was_lowered_again(copy):
    before = read_manifest(copy)
    qf.export(copy, "onnx-x86", sets=["target.onnxruntime=1.20"], name="first.onnx")
    qf.export(copy, "onnx-arm", sets=["export.input=uint8"], name="second.onnx")
    manifest = intact(copy)
    assert set(manifest.files) == {*before.files, "first.onnx", "second.onnx"}
    told = manifest.model_extra.pop("exported")
    assert manifest.model_extra == before.model_extra
    usual = {"target.onnxruntime": "1.24", "target.vnni": True, "target.prelu": "auto", "export.input": "float"}
    assert told == {
        "first.onnx": {"backend": "onnx-x86", "settings": usual | {"target.onnxruntime": "1.20"}},
        "second.onnx": {"backend": "onnx-arm", "settings": usual | {"export.input": "uint8"}},
    }


def test_torch_archives_are_added_too(copy):
    artifact = qf.export(copy, "torch-onednn")
    assert artifact.name in intact(copy).files and artifact.name in np.load(copy / "golden.npz").files


def test_force_replaces(copy):
    before = (copy / "int8.x86.onnx").read_bytes()
    with pytest.raises(ArtifactError, match=r"exists[\s\S]*--force[\s\S]*--name"):
        qf.export(copy, "onnx-x86", sets=["export.input=uint8"])
    assert (copy / "int8.x86.onnx").read_bytes() == before
    qf.export(copy, "onnx-x86", sets=["export.input=uint8"], force=True)
    assert (copy / "int8.x86.onnx").read_bytes() != before
    intact(copy)


@pytest.mark.parametrize(
    ("sets", "lines"),
    [
        (["calibration.count=3"], ["--set calibration.count: this cannot be changed"]),
        (["target.lowering=measure"], ["--set target.lowering: this cannot be changed"]),
        (["target={vnni: false}"], ["--set target: this cannot be changed"]),
        (["target.onnxruntime=1.17"], ["target.onnxruntime: nothing older than 1.18 was tried"]),
        (["target.prelu=max", "export.input=int8"], ["target.prelu: should be", "export.input: should be"]),
        (["target.vnni"], ["write it as KEY=VALUE"]),
        (["target.vnni=maybe", "model.mean=1"], ["target.vnni: should be", "--set model.mean"]),
    ],
)
def test_what_cannot_be_set_is_refused_by_name(sets, lines, copy):
    before = contents(copy)
    with pytest.raises(RecipeError) as caught:
        qf.export(copy, "onnx-x86", sets=sets, name="new.onnx")
    for line in (*lines, "target.onnxruntime, target.vnni, target.prelu, export.input"):
        assert line in str(caught.value)
    assert contents(copy) == before


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"no such file[\s\S]*manifest.json[\s\S]*compress"):
        qf.export(tmp_path / "nothing", "onnx-x86")


def test_archives_have_nothing_to_set(copy):
    with pytest.raises(RecipeError, match="something can for the files of .*onnx-x86"):
        qf.export(copy, "torch-x86", sets=["target.vnni=false"])


@pytest.mark.parametrize(
    "name",
    [
        "golden.npz",
        "manifest.json",
        "../up.onnx",
        "work/new.onnx",
        "/tmp/new.onnx",
        "new.ts",
        "float.onnx",
        ".onnx",
        "float.fast.onnx",
        "int8.arm.onnx",
        "",
        "model.safetensors",
    ],
)
def test_a_name_that_something_else_has_is_refused(name, copy):
    before = contents(copy)
    with pytest.raises(ArtifactError, match="cannot be the new file's name"):
        qf.export(copy, "onnx-x86", name=name, force=True)
    assert contents(copy) == before


@pytest.mark.parametrize("name", ["again.onnx", "golden.npz", "manifest.json"])
def test_a_full_disk_changes_nothing(name, copy, monkeypatch):
    before = contents(copy)
    fill_disk(monkeypatch, name)
    with pytest.raises(ArtifactError, match="the disk is full"):
        qf.export(copy, "onnx-x86", name="again.onnx")
    assert contents(copy) == before


@pytest.mark.parametrize("name", ["golden.npz", "model.safetensors", "quantization.json"])
def test_a_changed_folder_is_refused(name, copy):
    with (copy / name).open("ab") as file:
        file.write(b" ")
    before = contents(copy)
    with pytest.raises(ArtifactError, match=rf"{name}|damaged"):
        qf.export(copy, "onnx-x86", name="again.onnx")
    assert contents(copy) == before


def test_a_kill_between_two_renames_is_made_up_for(copy, monkeypatch):
    rename, before = Path.replace, (copy / "manifest.json").read_bytes()

    def stop(path, target):
        if Path(target) == copy / "manifest.json":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", stop)
        qf.export(copy, "onnx-x86", sets=["target.vnni=false"], name="first.onnx")
    assert (copy / "manifest.json").read_bytes() == before
    qf.export(copy, "onnx-x86", name="second.onnx")
    assert set(intact(copy).model_extra["exported"]) == {"first.onnx", "second.onnx"}
    assert not [path for path in copy.iterdir() if path.name.startswith(".")]


def test_the_command_says_it_as_json(copy, monkeypatch, capsys):
    args = ("export", copy, "--backend", "onnx-x86", "--set", "target.onnxruntime=1.18", "--name", "old.onnx")
    code, out, _ = run_here(monkeypatch, capsys, *args, "--json")
    (told,) = json.loads(out)["artifacts"]
    assert (code, told["file"], told["backend"]) == (0, str(copy / "old.onnx"), "onnx-x86")
    assert told["settings"]["target.onnxruntime"] == "1.18"
    assert told["sha256"] == read_manifest(copy).files["old.onnx"].sha256
    code, out, err = run_here(monkeypatch, capsys, *args)
    assert (code, out) == (1, "") and "the file exists" in err and "Traceback" not in err
    said = f"{copy / 'old.onnx'}\n"
    assert run_here(monkeypatch, capsys, *args, "--force") == (0, said, "lower to old.onnx\n")
    assert run_here(monkeypatch, capsys, *args, "--force", "--quiet") == (0, said, "")


def test_the_old_name_of_name_still_works_with_a_warning(copy, monkeypatch, capsys):
    args = ("export", copy, "--backend", "onnx-x86", "--out", "old.onnx")
    code, out, err = run_here(monkeypatch, capsys, *args)
    assert (code, out) == (0, f"{copy / 'old.onnx'}\n")
    assert err.startswith("warning: --out is called --name here")
    assert run_here(monkeypatch, capsys, *args, "--force", "--quiet") == (0, out, "")
    assert "--out" not in run_here(monkeypatch, capsys, "export", "--help")[1]


@pytest.mark.slow
def test_a_name_that_stands_for_several_writes_all_their_files(copy, monkeypatch, capsys):
    files = [str(copy / name) for name in ("packed.x86.onnx", "packed.arm.onnx")]
    with pytest.raises(ArtifactError, match="cannot have one name"):
        qf.export(copy, "onnx-packed", name="one.onnx")
    code, out, _ = run_here(monkeypatch, capsys, "export", copy, "--backend", "onnx-packed")
    assert (code, out.split()) == (0, files)
    code, out, _ = run_here(monkeypatch, capsys, "export", copy, "--backend", "onnx-packed", "--force", "--json")
    assert [told["file"] for told in json.loads(out)["artifacts"]] == files
    with pytest.raises(ArtifactError, match="the file exists"):
        qf.export(copy, "onnx-packed")
    verdicts = {file.name: file.verdict for file in pipeline.verify(copy).files}
    assert verdicts["packed.x86.onnx"] == verdicts["int8.x86.onnx"]
    assert verdicts["packed.arm.onnx"] == verdicts["int8.arm.onnx"]
    golden = np.load(copy / "golden.npz")
    assert np.array_equal(golden["packed.x86.onnx"], golden["int8.x86.onnx"])


@pytest.mark.parametrize(
    "key", in_tiers(("target.prelu=twin", "target.lowering=measure", "export.input=uint8"), fast=["target.prelu=twin"])
)
def test_every_key_is_in_the_fingerprint(key, checkpoint):
    plain, changed = (pipeline.plan_job(checkpoint, recipe="int8-fast", sets=sets) for sets in ([], [key]))
    assert plain.fingerprint != changed.fingerprint


@pytest.mark.slow
def test_the_demo_model_for_an_old_runtime_without_vnni_from_pixels(tmp_path):
    sets = [word for text in ("calibration.count=32", *ELSEWHERE) for word in ("--set", text)]
    out = tmp_path / "out"
    backends = ("--backend", "onnx-x86", "--backend", "onnx-arm")
    code, _, err = run_apart("compress", "demo", "--out", out, "--recipe", "int8-fast", *sets, *backends)
    assert code == 0, err
    for figures in qf.read_report(out / "report.json").artifacts:
        if figures.quantized:
            cosine = figures.simulation_agreement.cosine_mean
            assert cosine >= 0.9999, f"{figures.name} gives {cosine} of its simulation"
            assert figures.agreement.cosine_mean > 0.98, figures.agreement.cosine_mean
