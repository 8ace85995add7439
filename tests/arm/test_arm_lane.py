"""The lane really runs on aarch64, on the CPUs and in the runtimes that it says."""

import json

import arm_lane
import pytest

pytestmark = pytest.mark.arm

SAY = """
import json, platform, sys, onnxruntime, qface_toolkit.environment as environment
flags = environment.read_cpu()[1]
print(json.dumps([platform.machine(), sys.implementation._multiarch, flags, onnxruntime.__version__]))
"""

FLAGS = {
    "cortex-a72": ["asimd"],
    "neoverse-n1": ["asimd", "asimddp"],
    "max": ["asimd", "asimddp", "i8mm"],
}


@pytest.mark.parametrize("runtime", arm_lane.RUNTIMES)
@pytest.mark.parametrize("cpu", arm_lane.CPUS)
def test_programs_run_on_the_cpu_and_in_the_runtime_that_are_named(arm, cpu, runtime):
    said = json.loads(arm.run(cpu, "-c", SAY, runtime=runtime).stdout)
    assert said == ["aarch64", "aarch64-linux-gnu", FLAGS[cpu], runtime]


def test_a_program_that_fails_says_what_it_said(arm):
    with pytest.raises(arm.ArmError, match="max: exit code 1\n(.|\n)*ZeroDivisionError"):
        arm.run("max", "-c", "1 / 0")
