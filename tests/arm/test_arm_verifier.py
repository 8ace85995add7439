"""The verifier that travels, on aarch64: sound results are trusted, and wrong files whose hashes fit are not."""

import json
from pathlib import Path

import pytest
from test_wrong_files import check_verdicts
from wrong_files import DEMO, OF_INTEGERS, WITH_ISLANDS, write_wrong

pytestmark = pytest.mark.arm

WRONG = {
    "integers": ("neoverse-n1", [(OF_INTEGERS, ("onnx-arm", "onnx-x86"), 1)], 95),
    "islands, packed files and the demo model": (
        "cortex-a72",
        [(WITH_ISLANDS, ("onnx-arm",), 2), (OF_INTEGERS[:3], ("onnx-packed-arm",), 1), ((DEMO,), ("onnx-arm",), 1)],
        130,
    ),
}
"""By name: the CPU, what is made wrong, and how many of these files must change something."""


def test_the_verifier_of_a_result_trusts_it(arm, demo):
    """`qface verify`, which judges by the same code, runs on the other CPUs, too."""
    out = arm.run("neoverse-n1", demo / "verify.py").stdout
    rows = {line.split()[0]: line.split()[1:2] for line in out.splitlines() if line}
    floats, integers = ("float.onnx", "float.fast.onnx"), ("int8.arm.onnx", "int8.x86.onnx", "packed.arm.onnx")
    assert [rows[name] for name in floats] == [["agrees"]] * 2
    assert [rows[name] for name in integers] == [["exact"]] * 3
    assert "5 of 5 files can be trusted here, on 8 golden images." in out
    assert "not looked at: int8.qnnpack.ts" in out and "qdqisint8allowed" not in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_differ(arm, name, tmp_path):
    cpu, wanted, enough = WRONG[name]
    for one in wanted:
        write_wrong(tmp_path, *one)
    told = json.loads(arm.run(cpu, Path(__file__).with_name("judge_all.py"), tmp_path).stdout)
    assert check_verdicts(tmp_path, {folder: file for folder, (file,) in told.items()}) >= enough
