"""`qface verify` itself on aarch64, of a result made here."""

import json

import arm_lane
import pytest

pytestmark = pytest.mark.arm

CPUS = dict(zip(arm_lane.CPUS, (arm_lane.OLDEST, arm_lane.NEWEST, arm_lane.NEWEST), strict=True))


@pytest.mark.parametrize("cpu", CPUS)
def test_a_result_made_elsewhere_is_verified_to_the_bit(arm, demo, cpu):
    done = arm.run(cpu, "-m", "qface_toolkit", "verify", demo, "--json", runtime=CPUS[cpu])
    verdicts = {file["name"]: file["verdict"] for file in json.loads(done.stdout)["files"]}
    assert verdicts == {
        "float.onnx": "agrees",
        "float.fast.onnx": "agrees",
        "int8.arm.onnx": "exact",
        "int8.x86.onnx": "exact",
        "packed.arm.onnx": "exact",
        "int8.qnnpack.ts": "exact",
    }
