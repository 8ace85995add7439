"""What is asked for before a job begins: any network, facts that are set, and what makes two jobs one."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import qface_toolkit as qf
from qface_toolkit import pipeline

COUNT = "calibration.count=16"
pytestmark = pytest.mark.usefixtures("measured_quickly")


class Small(nn.Module):
    """A network of no architecture we know: ReLU as a function, the mean of the places as pooling."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=4, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 16, 3, stride=2)
        self.embed = nn.Linear(16, 12)

    def forward(self, x):
        x = functional.relu(self.norm(self.first(x)))
        return self.embed(functional.relu(self.second(x)).mean(dim=(2, 3)))


@pytest.mark.slow
def test_any_network_can_be_compressed(tmp_path):
    torch.manual_seed(1)
    network = Small()
    report = qf.compress(network, out=tmp_path / "out", recipe="int8-fast", sets=[COUNT], backends=["onnx-x86"])
    assert (report.source.name, report.source.parameters) == ("Small", sum(p.numel() for p in network.parameters()))
    (figures,) = (one for one in report.artifacts if one.quantized)
    cosine = figures.agreement.cosine_mean
    assert cosine > 0.99, cosine
    simulated = figures.simulation_agreement.cosine_mean
    assert simulated >= 0.9999, simulated


@pytest.mark.parametrize("give", [lambda network: network, qf.from_module], ids=["module", "float model"])
def test_facts_of_any_network_can_be_set(give):
    sets = ["model.mean=[1, 2, 3]", "model.license=MIT", "model.color=bgr"]
    spec = pipeline.plan_job(give(Small()), sets=sets).model.spec
    assert (spec.mean, spec.std, spec.color, spec.license) == ((1.0, 2.0, 3.0), (127.5,) * 3, "bgr", "MIT")
    with pytest.raises(qf.QFaceError, match="model.colour"):
        pipeline.plan_job(give(Small()), sets=["model.colour=bgr"])


def test_backend_named_twice_is_written_once(checkpoint):
    job = pipeline.plan_job(checkpoint, recipe="int8-fast", backends=["torch-x86", "onnx-x86", "torch-x86"])
    assert job.recipe.backends == ("torch-x86", "onnx-x86")


def test_changed_calibration_set_is_another_job(checkpoint, tmp_path):
    mine = tmp_path / "mine.yaml"
    prints = set()
    for attributes in ("calibration", "heldout"):
        mine.write_text(f"kind: procedural\nparameters: {{attributes: {attributes}}}\ncount: 16\n")
        prints.add(pipeline.plan_job(checkpoint, sets=[f"calibration.set={mine}"]).fingerprint)
    assert len(prints) == 2


def test_another_network_with_the_same_weights_is_another_job():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 4, 3, stride=4), nn.Linear(4, 8)

        def forward(self, x):
            return self.linear(self.activated(self.conv(x)).mean([2, 3]))

        def activated(self, x):
            return functional.relu(x)

    class Clipped(Plain):
        def activated(self, x):
            return functional.relu6(x)

    plain, clipped = Plain(), Clipped()
    clipped.load_state_dict(plain.state_dict())
    assert pipeline.plan_job(plain).fingerprint != pipeline.plan_job(clipped).fingerprint
    assert pipeline.plan_job(plain).fingerprint == pipeline.plan_job(plain).fingerprint
