"""Single operators give on aarch64 what the simulated arithmetic says, code by code, over thousands of cases."""

from pathlib import Path

import arm_lane
import numpy as np
import onnx
import pytest
from operator_cases import KINDS, X86, Cases, additions, products

pytestmark = pytest.mark.arm
PROGRAM = Path(__file__).with_name("run_cases.py")
SEED = 7

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def cases_of(kind, **options):
    """Return the cases of a kind."""
    cases = Cases(SEED, **options)
    kind(cases)
    return cases


@pytest.fixture(scope="session")
def outputs(arm, made_once):
    """Return what gives the folder of all outputs on a CPU, in a version of ONNX Runtime."""

    def write(folder):
        for kind in KINDS:
            cases = cases_of(kind)
            onnx.save(cases.model(), folder / f"{kind.__name__}.onnx")
            np.savez(folder / f"{kind.__name__}.npz", **cases.inputs)

    def outputs_of(cpu, runtime):
        written = made_once.folder("arm-cases", write)
        return made_once.folder(
            f"arm-cases-{cpu}-{runtime}", lambda folder: arm.run(cpu, PROGRAM, written, folder, runtime=runtime)
        )

    return outputs_of


@pytest.mark.parametrize("runtime", arm_lane.RUNTIMES)
@pytest.mark.parametrize("cpu", arm_lane.CPUS)
@every_kind
def test_every_case_is_as_simulated(kind, cpu, runtime, outputs):
    expected = cases_of(kind).expected
    with np.load(outputs(cpu, runtime) / f"{kind.__name__}.npz") as found:
        apart = {name: int((found[name] != codes).sum()) for name, codes in expected.items()}
    assert len(apart) >= 80
    assert {name: count for name, count in apart.items() if count} == {}


@every_kind
def test_the_arithmetic_of_x86_is_another_where_it_is_said_to_be(kind):
    """Cases that did not tell the two apart would prove nothing."""
    x86 = cases_of(kind, engines=X86).expected
    apart = sum(int((codes != x86[name]).sum()) for name, codes in cases_of(kind).expected.items())
    assert (apart > 0) == (kind in (additions, products))
