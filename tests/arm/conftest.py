"""The ARM lane as a fixture: what cannot be built is skipped on a developer's machine and fails where all must run."""

import os

import arm_lane
import pytest
from arm_root import CannotBuild, built_root


@pytest.fixture(scope="session")
def arm():
    """Return the module that runs programs on aarch64, its root built."""
    try:
        built_root()
    except CannotBuild as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no ARM lane: {error}")
    return arm_lane
