"""What the aarch64 runtime itself makes of files: every layer an integer kernel, and no float island."""

import json
import shutil

import arm_lane
import pytest
from arm_jobs import DEMO
from quantized import SMALL_NETWORKS

pytestmark = pytest.mark.arm


def test_every_layer_runs_on_integers(arm, jobs, tmp_path):
    for network in (DEMO, *SMALL_NETWORKS):
        shutil.copy(jobs / network / "int8.arm.onnx", tmp_path / f"{network}.onnx")
    found = json.loads(arm.run("neoverse-n1", "-m", "qface_toolkit", "inspect", tmp_path, "--json").stdout)
    assert len(found["files"]) == 1 + len(SMALL_NETWORKS)
    for file in found["files"]:
        assert file["placement"] == f"checked on aarch64, onnxruntime {arm_lane.NEWEST}"
        layers = file["convolutions"], file["linear_layers"]
        assert (file["integer_convolutions"], file["integer_linear_layers"]) == layers and sum(layers) > 0, file["name"]
        assert [island for island in file["islands"] if not island["of_embedding"]] == [], file["name"]
