"""The preprocessing is judged by what the network embeds: on a few crops, or on drawings where facts were given."""

import numpy as np
import pytest
import torch
from helpers import SMALL, run_here, write_tiny
from PIL import Image
from torch import nn

from qface_toolkit.errors import CalibrationError, CheckpointError
from qface_toolkit.evaluation import synthetic_people
from qface_toolkit.models import FloatModel, ModelSpec
from qface_toolkit.pipeline._preparation import judge_preprocessing
from qface_toolkit.scoring.mirrored import score_mirrored

EDGES = torch.tensor([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]])


class Looks(nn.Module):
    """Embeds the edges of coarse pictures, the same for mirror images; it sees nothing beyond -1..1."""

    def forward(self, x):
        edges = nn.functional.conv2d(nn.functional.avg_pool2d(torch.clamp(x, -1, 1), 7).mean(1, keepdim=True), EDGES)
        return (edges + edges.flip(3)).flatten(1) + 1e-3


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    drawn = synthetic_people(16, 2)
    for index in range(32):
        Image.fromarray(drawn.images.crop(index)).save(folder / f"{index:02}.png")
    return folder


def model(mean, std):
    spec = ModelSpec("looks", (112, 112), 196, (float(mean),) * 3, (float(std),) * 3)
    return FloatModel(Looks(), spec, "0" * 64)


def test_what_is_right_is_noted(crops):
    found = judge_preprocessing(model(127.5, 127.5), crops, {}, known=True)
    (note,) = found.notes
    assert note.startswith("preprocessing checked on 32 crops, mean 127.5 and std 127.5, rgb: a mean cosine of 1.00")
    assert found.warnings == ()


def test_another_scale_is_refused_with_a_better_one(crops):
    with pytest.raises(CheckpointError, match="hardly tells 32 crops apart") as raised:
        judge_preprocessing(model(0, 1), crops, {}, known=True)
    assert "--set model.mean=127.5 --set model.std=127.5" in raised.value.fix
    found = judge_preprocessing(model(0, 1), crops, {"checked": True}, known=True)
    assert "better with mean 127.5 and std 127.5" in found.warnings[0]


def test_too_few_or_no_crops_are_said(crops, tmp_path):
    with pytest.raises(CalibrationError, match="no such folder"):
        judge_preprocessing(model(0, 1), tmp_path / "none", {}, known=True)
    for index in range(3):
        Image.open(crops / f"{index:02}.png").save(tmp_path / f"{index}.png")
    with pytest.raises(CalibrationError, match="3 crop"):
        judge_preprocessing(model(0, 1), tmp_path, {}, known=True)


def test_folders_of_people_will_do(crops, tmp_path):
    for index in range(16):
        (tmp_path / f"p{index // 2}").mkdir(exist_ok=True)
        Image.open(crops / f"{index:02}.png").save(tmp_path / f"p{index // 2}" / f"{index}.png")
    assert "checked on 16 crops" in judge_preprocessing(model(127.5, 127.5), tmp_path, {}, known=True).notes[0]


def test_a_network_that_overflows_tells_nothing_apart():
    rows = np.zeros((4, 8), np.float32)
    assert score_mirrored(rows, rows).deviations == 0
    same = np.ones((4, 8), np.float32)
    assert score_mirrored(same, same).deviations == 0


def test_the_score_grows_with_the_distance_between_people():
    draw = np.random.default_rng(0)
    people = draw.standard_normal((20, 64)).astype(np.float32)
    near = (people + draw.standard_normal(people.shape) * 0.1).astype(np.float32)
    far = (people + draw.standard_normal(people.shape)).astype(np.float32)
    assert score_mirrored(people, near).deviations > 1.5 * score_mirrored(people, far).deviations > 0
    assert score_mirrored(people * 3, near).norm == pytest.approx(3 * score_mirrored(people, near).norm, rel=1e-5)


def test_given_facts_are_doubted_on_drawings_and_known_ones_are_not():
    wrong = model(0, 1)
    assert judge_preprocessing(wrong, None, {}, known=True) is wrong
    assert judge_preprocessing(wrong, None, {"mean": 0, "checked": True}, known=True) is wrong
    (warning,) = judge_preprocessing(wrong, None, {"mean": 0}, known=True).warnings
    assert warning.startswith("mean and std may be wrong")
    assert "--faces DIR" in warning
    right = model(127.5, 127.5)
    assert judge_preprocessing(right, None, {}, known=False) is right


def test_the_command_checks_and_does_not_calibrate_on_faces(crops, tmp_path, monkeypatch, capsys):
    path = write_tiny(tmp_path / "w.pth")
    args = ("compress", path, "--out", tmp_path / "out", *SMALL, "--dry-run", "--json")
    code, plan, said = run_here(monkeypatch, capsys, *args, "--faces", crops)
    assert code == 0, said
    assert "preprocessing checked on 32 crops" in plan
    assert '"set": "drawings"' in plan
    code, _, said = run_here(monkeypatch, capsys, *args, "--faces", tmp_path / "none")
    assert code == 1
    assert "no such folder" in said
