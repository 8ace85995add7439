"""The last feature map: found in any network, compared place by place, and no part of what is kept."""

import copy
import gc
import weakref

import pytest
import torch
from helpers import write_tiny
from tiny_student import STUDENT, options, people
from torch import nn

from qface_toolkit.errors import TrainingError
from qface_toolkit.models import build_student, load_model
from qface_toolkit.pipeline import _teachers, train
from qface_toolkit.training.features import LastMap, map_channels, map_distance


@pytest.mark.parametrize(
    ("name", "channels"), [("mobilefacenet", 128), ("pocketnet-s-128", 128), ("iresnet18", 128), ("edgeface-xxs", 42)]
)
def test_every_network_has_one(name, channels):
    model = build_student(name, width=0.25) if name != "edgeface-xxs" else build_student(name)
    assert map_channels(model.network, model.spec.input_shape) == channels
    assert not any(module._forward_hooks for module in copy.deepcopy(build_student(name).network).modules())


def test_it_is_the_last_of_more_than_one_pixel_and_is_forgotten():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    last = LastMap(network)
    network(torch.zeros(2, 3, 8, 8))
    assert last.take().shape == (2, 5, 4, 4)
    assert last.take() is None
    last.leave()
    network(torch.zeros(2, 3, 8, 8))
    assert last.take() is None


def test_maps_that_point_the_same_way_are_no_distance_apart():
    wanted = torch.randn(2, 6, 4, 4)
    assert map_distance(3 * wanted, wanted).item() == pytest.approx(0, abs=1e-6)
    assert map_distance(-wanted, wanted).item() == pytest.approx(2, abs=1e-6)
    assert 0.7 < map_distance(torch.randn(2, 6, 4, 4), wanted).item() < 1.3
    assert map_distance(wanted, nn.functional.adaptive_avg_pool2d(wanted, (2, 3))).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_a_student_learns_maps_and_keeps_nothing_of_them(tmp_path):
    crops = people(tmp_path / "people")
    learn = options(crops, "loss.features=2", "average=0.9", "epochs=3")
    report = train(STUDENT, out=tmp_path / "out", **learn)
    first, *_, last = (point.parts["features"] for point in report.points)
    assert last < first
    kept = load_model(tmp_path / "out").network
    assert kept.state_dict().keys() == build_student(STUDENT, width=0.125).network.state_dict().keys()


def test_teachers_with_maps_of_other_widths_are_refused_before_the_first_step(tmp_path):
    crops = people(tmp_path / "people")
    teachers = [build_student(STUDENT, width=width, embedding_size=128) for width in (0.25, 0.5)]
    given = options(crops, "loss.features=2", "loss.classes=0", "teacher.spread=true", teachers=teachers)
    with pytest.raises(TrainingError, match="last feature maps have .* and .* channels"):
        train(STUDENT, out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_was_looked_at_is_not_kept_in_memory(tmp_path, monkeypatch):
    files = [write_tiny(tmp_path / f"epoch-{number}.pth") for number in (1, 2)]
    seen = []

    def load(*args, **facts):
        model = load_model(*args, **facts)
        seen.append(weakref.ref(model.network))
        return model

    monkeypatch.setattr(_teachers, "load_model", load)
    found = _teachers.find_teachers([str(tmp_path / "epoch-*.pth")], {})
    gc.collect()
    assert len(seen) == 2 and not any(one() for one in seen)
    assert found[1].open().source_sha256 == found[1].sha256
    write_tiny(files[1], lambda state: {key: value + 1 for key, value in state.items()})
    with pytest.raises(TrainingError, match="has changed since the training began"):
        found[1].open()
