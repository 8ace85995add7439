"""Every form of file gives on aarch64, on every CPU model, what was simulated: its embeddings and all codes inside."""

import arm_lane
import numpy as np
import pytest
from arm_jobs import DEMO, FAST, FILES, IN_FLOAT, LOOKED_INTO, NETWORKS
from quantized import SMALL_NETWORKS, cosines

from qface_toolkit.verifier import TRUSTED_COSINE

pytestmark = pytest.mark.arm

INT8 = (*FILES, *(f"codes.{file}" for file in LOOKED_INTO))

MACHINES = [(cpu, runtime) for runtime in arm_lane.RUNTIMES for cpu in arm_lane.CPUS]
"""All networks of one of these are run at once, by whichever worker needs the first of them."""


def both(jobs, outputs, file):
    """Yield the name, the expected and the returned array of each output of a file."""
    with np.load(jobs / f"{file}.npz") as expected, np.load(outputs / f"{file}.npz") as got:
        assert set(expected.files) == set(got.files)
        yield from ((name, expected[name], got[name]) for name in expected.files)


def differing(jobs, outputs, file):
    """Return the outputs of a file that are not what was simulated.

    What computes in float may give the next codes here and there.
    """
    found = list(both(jobs, outputs, file))
    if not (jobs / IN_FLOAT).exists():
        return [name for name, expected, got in found if not np.array_equal(expected, got)]
    embeddings = [one for one in found if one[1].dtype == np.float32]
    steps = np.concatenate(
        [abs(e.astype(int) - g).ravel() for _, e, g in found if e.dtype != np.float32] or [np.zeros(1)]
    )
    apart = [name for name, expected, got in embeddings if cosines(expected, got).min() < TRUSTED_COSINE]
    return apart + ["codes"] * bool(steps.max() > 1 or steps.mean() > 1e-3)


@pytest.mark.parametrize(("cpu", "runtime"), MACHINES)
@pytest.mark.parametrize("network", NETWORKS)
def test_int8_files_give_what_was_simulated(jobs, outputs, network, cpu, runtime):
    wrong = {file: differing(jobs / network, outputs(cpu, runtime) / network, file) for file in INT8}
    assert not any(wrong.values()), wrong


@pytest.mark.parametrize(("cpu", "runtime"), MACHINES)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_float_file_gives_what_the_network_does(jobs, outputs, network, cpu, runtime):
    if network == "pad before a maximum" and runtime == arm_lane.OLDEST:
        pytest.skip("this runtime takes a border of zeros before a maximum for one of nothing, on every processor")
    ((_, expected, got),) = both(jobs / network, outputs(cpu, runtime) / network, FAST)
    assert abs(got - expected).max() < 1e-5 * abs(expected).max()


def test_layouts_are_held_to_the_last_bit(jobs):
    assert not [network for network in (DEMO, *SMALL_NETWORKS) if (jobs / network / IN_FLOAT).exists()]
