"""The lane really runs on aarch64, on the CPUs and in the runtimes that it says."""

import json
from pathlib import Path

import arm_lane
import pytest

pytestmark = pytest.mark.arm

PROGRAM = Path(__file__).with_name("tell_machine.py")

EXECUTES = {"cortex-a72": [], "neoverse-n1": ["sdot"], "max": ["sdot", "smmla"]}


@pytest.mark.parametrize("runtime", arm_lane.RUNTIMES)
@pytest.mark.parametrize("cpu", arm_lane.CPUS)
def test_programs_run_on_the_cpu_and_in_the_runtime_that_are_named(arm, cpu, runtime):
    told = json.loads(arm.run(cpu, PROGRAM, runtime=runtime).stdout)
    assert told == {"machine": "aarch64", "onnxruntime": runtime, "executes": EXECUTES[cpu]}


def test_a_program_that_fails_says_what_it_said(arm):
    with pytest.raises(arm.ArmError, match="max: exit code 1\n(.|\n)*ZeroDivisionError"):
        arm.run("max", "-c", "1 / 0")
