"""The short version of the gate's own statistics: no false alarm beside a busy process, and no true one missed."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.gate import open_report
from qface_toolkit.report import read_report

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RUNS = 2
LONGEST_S = 6.0


@pytest.fixture(scope="module")
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import false_alarms
        import spoiled

        yield false_alarms, spoiled
    for name in ("false_alarms", "spoiled"):
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def result(finished_onnx):
    return finished_onnx / "out"


def test_a_slower_file_computes_the_same_with_the_same_operators(scripts, result, tmp_path):
    _, spoiled = scripts
    layers = spoiled.depthwise_layers(result)
    slow = spoiled.spoil_file(result, tmp_path / "slow", spoiled.slower(layers))
    images = np.random.default_rng(0).standard_normal((4, 3, 112, 96)).astype(np.float32)
    before, after = (open_onnx(folder / spoiled.ARTIFACT, threads=1)(images) for folder in (result, slow))
    assert layers > 0
    assert np.array_equal(before, after)
    found = {folder: {one.name: one for one in open_report(folder).report.artifacts} for folder in (result, slow)}
    assert found[slow][spoiled.ARTIFACT].operators == found[result][spoiled.ARTIFACT].operators


def test_an_island_is_one(scripts, result, tmp_path):
    _, spoiled = scripts
    island = spoiled.spoil_file(result, tmp_path / "island", spoiled.put_island_back)
    before, after = (
        next(one for one in read_report(folder / "report.json").artifacts if one.name == spoiled.ARTIFACT)
        for folder in (result, island)
    )
    assert after.integer_convolutions < before.integer_convolutions
    assert onnx.load(island / spoiled.ARTIFACT).graph.node


@pytest.mark.slow
@pytest.mark.alone
def test_no_false_alarm_and_no_true_one_missed(scripts, result, tmp_path):
    false_alarms, _ = scripts
    found = false_alarms.statistics(result, tmp_path, RUNS, LONGEST_S)
    outcomes = found["outcomes"]
    assert "failed" not in outcomes[false_alarms.SAME], found
    for name in false_alarms.SPOILED:
        assert outcomes[name] == {"failed": RUNS}, (name, found)
    # In so few seconds a tiny network's latency may stay unclear, and how slow it gets is not for us to choose.
    if found["slower_by_when_made"] >= false_alarms.SLOWER_SHARE - false_alarms.WITHIN:
        assert "passed" not in found["latency_outcomes"][false_alarms.SLOW], found
    assert max(run[false_alarms.SAME]["measured_s"] for run in found["runs"]) < 5 * LONGEST_S
