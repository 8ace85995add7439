"""Matched drawings: nearer to the model's statistics, the same again, and honest where there is nothing to match."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import measure_quickly, run_here, write_tiny
from torch import nn
from torch.nn import functional

from qface_toolkit import pipeline
from qface_toolkit.errors import CalibrationError
from qface_toolkit.models import from_module
from qface_toolkit.sources import _matching, find_set, load_crops
from qface_toolkit.sources import matched as matched_source
from qface_toolkit.sources._matching import Matcher, _FrozenPReLU, _Moments, statistics_layers
from qface_toolkit.sources._sets import NamedSet

QUICK = {"iterations": 8, "batch": 4, "learning_rate": 4.0}
SMALL_MATCHED = ["calibration.set=matched", "calibration.count=4"]
DRAWINGS = find_set("drawings")


def matched(count=4, seed=0, **parameters):
    return NamedSet(kind="matched", parameters=QUICK | parameters, count=count, seed=seed)


def folded():
    """Return a model without BatchNorm, as one that comes from an ONNX export."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8))
    return from_module(network, input_size=(112, 96))


def refused(network):
    model = replace(folded(), network=network)
    with pytest.raises(CalibrationError, match="gradient") as raised:
        matched().open(model=model).crop(0)
    assert "drawings" in str(raised.value)


def distance(model, crops):
    return Matcher(model).distance(crops)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_the_distance_falls(tiny_float, color):
    model = replace(tiny_float, spec=replace(tiny_float.spec, color=color))
    before, after = load_crops(DRAWINGS.open(4)), load_crops(matched().open(model=model))
    first, last = distance(model, before), distance(model, after)
    assert last < 0.3 * first, f"{first} became {last}"


@pytest.mark.parametrize(
    ("size", "facts"), [((40, 48), {"color": "gray", "crop": "none"}), ((150, 150), {"crop": "dlib"})], ids=str
)
def test_the_distance_falls_in_a_models_own_frame(size, facts):
    channels = 1 if facts.get("color") == "gray" else 3
    layers = nn.Conv2d(channels, 8, 3, 2), nn.BatchNorm2d(8), nn.PReLU(8), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = nn.Sequential(*layers, nn.Linear(8, 6))
    network[1].running_var *= 0.3
    model = from_module(network, input_size=size, **facts)
    before, after = load_crops(DRAWINGS.open(4, model=model)), load_crops(matched().open(model=model))
    assert before.shape == after.shape == (4, *size, 3)
    first, last = distance(model, before), distance(model, after)
    assert last < 0.8 * first, f"{first} became {last}"
    if channels == 1:
        assert np.array_equal(after[..., 0], after[..., 1])


def test_images_never_end_farther_away_than_they_began(tiny_float):
    first = distance(tiny_float, load_crops(DRAWINGS.open(4)))
    last = distance(tiny_float, load_crops(matched(learning_rate=200.0, closeness=0.0).open(model=tiny_float)))
    assert last <= first, f"{first} became {last}"


def test_the_images_of_the_training_are_at_no_distance(tiny_float, trained_on):
    found = distance(tiny_float, trained_on)
    assert found < 1e-3, found
    assert distance(tiny_float, load_crops(DRAWINGS.open(16))) > 100 * found


def test_only_what_the_network_eats_is_moved(tiny_float):
    moved = load_crops(DRAWINGS.open(4)) != load_crops(matched().open(model=tiny_float))
    assert moved[:, :, 8:104].mean() > 0.5
    assert not moved[:, :, :8].any() and not moved[:, :, 104:].any()


def test_staying_close_keeps_pixels_where_they_are(tiny_float):
    drawn = load_crops(DRAWINGS.open(4)).astype(float)
    far, near = (
        np.abs(load_crops(matched(closeness=weight).open(model=tiny_float)) - drawn).mean() for weight in (0.0, 1e4)
    )
    assert near < 0.5 * far, f"{near} and {far}"


def test_the_same_seed_gives_the_same_pixels(tiny_float):
    once, again, other = (load_crops(matched(seed=seed).open(model=tiny_float)) for seed in (1, 1, 2))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


def test_growing_a_set_changes_none_of_it(tiny_float):
    few, many = (load_crops(matched(count).open(model=tiny_float), range(3)) for count in (3, 9))
    assert np.array_equal(few, many)


@pytest.mark.parametrize(("share", "refined"), [(0.5, [1, 3, 5]), (0.3, [3, 6]), (0.75, [1, 2, 3, 5]), (1.0, [0, 1])])
def test_a_share_leaves_the_other_drawings_alone(share, refined, tiny_float):
    count = refined[-1] + 1
    crops, drawn = load_crops(matched(share=share).open(count, model=tiny_float)), load_crops(DRAWINGS.open(count))
    assert [index for index in range(count) if not np.array_equal(crops[index], drawn[index])] == refined


def test_batches_follow_each_other_and_only_one_is_kept(tiny_float, monkeypatch):
    batches = []

    def refine(self, crops, **options):
        batches.append(len(crops))
        return crops

    monkeypatch.setattr(Matcher, "refined", refine)
    images = matched(count=40, share=0.5).open(model=tiny_float)
    assert np.array_equal(load_crops(images), load_crops(DRAWINGS.open(40)))
    assert batches == [4] * 5
    images.crop(1)
    assert batches == [4] * 6


def test_a_batch_is_the_same_whether_or_not_it_is_taken_apart(tiny_float, trained_on, monkeypatch):
    found = []
    for few in (3, 16):
        monkeypatch.setattr(_matching, "AT_ONCE", few)
        matcher = Matcher(tiny_float)
        pixels = matcher._tensor(load_crops(DRAWINGS.open(16)))
        moments = [one.requires_grad_(True) for one in matcher._moments_of_all(pixels)]
        distance = matcher._distance(moments)
        found.append((distance.item(), matcher._gradient(pixels, distance, moments)))
    (apart, parts), (whole, gradient) = found
    assert apart == pytest.approx(whole, rel=1e-4)
    assert torch.allclose(parts, gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))


def test_memory_does_not_grow_with_the_batch(tiny_float, monkeypatch):
    seen = []
    record = Matcher._moments
    monkeypatch.setattr(Matcher, "_moments", lambda self, pixels: seen.append(len(pixels)) or record(self, pixels))
    Matcher(tiny_float).refined(load_crops(DRAWINGS.open(20)), iterations=1, learning_rate=1.0, closeness=0.0)
    assert max(seen) == _matching.AT_ONCE < 20


def test_the_model_is_left_alone(tiny_float):
    before = {key: value.clone() for key, value in tiny_float.network.state_dict().items()}
    matched().open(model=tiny_float).crop(0)
    assert all(torch.equal(value, before[key]) for key, value in tiny_float.network.state_dict().items())
    assert all(one.requires_grad and one.grad is None for one in tiny_float.network.parameters())
    assert not any(layer._forward_pre_hooks for layer in tiny_float.network.modules())


def test_layers_as_they_were_made_have_no_statistics():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm1d(4))
    assert statistics_layers(network) == []
    network[2].running_mean += 1
    assert statistics_layers(network) == [network[2]]


def test_without_statistics_drawings_are_used_and_the_manifest_says_so():
    model = folded()
    assert np.array_equal(load_crops(matched().open(model=model)), load_crops(DRAWINGS.open(4)))
    manifest = matched().manifest("0" * 64, model)
    assert manifest.contains_no_real_face_data is True
    assert "no BatchNorm statistics" in manifest.warnings[0]


def test_the_manifest_names_the_model_and_says_what_is_not_known(tiny_float):
    manifest = matched().manifest("0" * 64, tiny_float)
    assert manifest.parameters["model_sha256"] == tiny_float.source_sha256
    assert manifest.contains_no_real_face_data is None
    assert "may have been real faces" in manifest.warnings[0]


def test_without_a_model_the_next_step_is_told(tmp_path, monkeypatch, capsys):
    code, _, err = run_here(monkeypatch, capsys, "synth", "matched", "--out", tmp_path / "set")
    assert (code, "--for CHECKPOINT" in err) == (1, True)
    assert not (tmp_path / "set").exists()


def test_synth_takes_a_model_and_warns(tmp_path, monkeypatch, capsys):
    checkpoint = write_tiny(tmp_path / "tiny.pth")
    (tmp_path / "mine.yaml").write_text("kind: matched\nparameters: {iterations: 1, batch: 2}\ncount: 2\n")
    given = ("synth", tmp_path / "mine.yaml", "--for", checkpoint, "--out", tmp_path / "set", "--json")
    code, out, err = run_here(monkeypatch, capsys, *given)
    assert (code, len(list((tmp_path / "set" / "images").iterdir()))) == (0, 2)
    assert err.startswith("warning: calibration images: moved towards")
    assert json.loads(out) == json.loads((tmp_path / "set" / "manifest.json").read_text())


@pytest.mark.slow
def test_a_job_reports_that_there_was_nothing_to_match(tmp_path, monkeypatch, capsys):
    measure_quickly(monkeypatch)
    job = pipeline.plan_job(folded(), recipe="int8-fast", sets=SMALL_MATCHED, backends=["onnx-x86"])
    report = pipeline.run_job(job, tmp_path / "out")
    assert (report.calibration.kind, report.calibration.count) == ("matched", 4)
    assert report.calibration.contains_no_real_face_data is True
    assert f"- warning: {matched_source.UNCHANGED}" in (tmp_path / "out" / "report.md").read_text().splitlines()
    monkeypatch.setattr(pipeline, "plan_job", lambda checkpoint, **options: job)
    monkeypatch.setattr(pipeline, "run_job", lambda job, out, **options: report)
    code, out, err = run_here(monkeypatch, capsys, "compress", "demo", "--out", tmp_path / "out", "--json")
    assert (code, err) == (0, f"warning: calibration images: {matched_source.UNCHANGED}\n")
    assert json.loads(out)["calibration"]["warnings"] == [matched_source.UNCHANGED]


def test_a_stopped_job_does_not_go_on_with_other_options(tmp_path, tiny_float):
    path, prints = tmp_path / "mine.yaml", []
    for iterations in (1, 2, 1):
        path.write_text(f"kind: matched\nparameters: {{iterations: {iterations}}}\ncount: 2\n")
        sets = [f"calibration.set={path}", "calibration.count=2"]
        prints.append(pipeline.plan_job(tiny_float, recipe="int8-fast", sets=sets).fingerprint)
    assert prints[0] == prints[2] != prints[1]


def test_a_gradient_that_is_not_finite_is_refused():
    broken = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    broken[0].running_mean += torch.nan
    refused(broken.eval())


def test_a_network_that_lets_no_gradient_through_is_refused():
    class Rounded(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.norm.running_mean += 1

        def forward(self, x):
            return self.norm(x.detach()).mean((2, 3))

    refused(Rounded().eval())


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (7, 3)])
def test_gradients_written_out_are_those_of_autograd(shape):
    torch.manual_seed(0)
    values = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    centre, slopes = torch.randn(3, dtype=torch.float64), torch.tensor([0.2, -0.5, 1.5], dtype=torch.float64)
    mean, square = _Moments.apply(values, centre)
    shifted = values.detach().movedim(1, -1) - centre
    assert torch.allclose(mean, shifted.reshape(-1, 3).mean(0))
    assert torch.allclose(square, shifted.square().reshape(-1, 3).mean(0))
    assert torch.autograd.gradcheck(lambda x: _Moments.apply(x, centre), values)
    assert torch.autograd.gradcheck(lambda x: _FrozenPReLU.apply(x, slopes), values)
    assert torch.equal(_FrozenPReLU.apply(values, slopes), functional.prelu(values, slopes))
