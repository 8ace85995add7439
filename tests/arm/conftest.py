"""The ARM lane as a fixture: what cannot be built is skipped on a developer's machine and fails where all must run."""

import os
from pathlib import Path

import arm_lane
import pytest
from arm_root import CannotBuild, built_root


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Have one worker make the files while the other, which begins in the middle, runs what needs none of them.

    What runs in one runtime on one CPU stays together: whichever worker comes first runs all of its networks at once.
    """
    if all(item.get_closest_marker("arm") for item in items):
        needing = [item for item in items if {"jobs", "demo"} & set(item.fixturenames)]
        others = [item for item in items if item not in needing]
        half = len(items) // 2
        items[:] = [*needing[:half], *others, *needing[half:]]


@pytest.fixture(scope="session")
def arm():
    """Return the module that runs programs on aarch64, its root built."""
    try:
        built_root()
    except CannotBuild as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no ARM lane: {error}")
    return arm_lane


@pytest.fixture(scope="session")
def demo(made_once):
    """Return a result of the demo model with all files that ARM is meant to run."""
    from arm_jobs import compress_demo

    return made_once.folder("arm-demo", compress_demo) / "out"


@pytest.fixture(scope="session")
def jobs(made_once, demo):
    """Return the folder of jobs, which hold files and what they must give."""
    from arm_jobs import write_jobs

    return made_once.folder("arm-jobs", lambda folder: write_jobs(folder, demo))


@pytest.fixture(scope="session")
def outputs(arm, jobs, made_once):
    """Return what gives the folder of all jobs' outputs on a CPU, in a version of ONNX Runtime."""
    program = Path(__file__).with_name("run_jobs.py")

    def outputs_of(cpu, runtime):
        def run(folder):
            arm.run(cpu, program, jobs, folder, runtime=runtime)

        return made_once.folder(f"arm-{cpu}-{runtime}", run)

    return outputs_of
