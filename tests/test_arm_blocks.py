"""How executed instructions are counted from an emulator's log."""

import importlib
from collections import Counter
from pathlib import Path

import pytest

LOG = b"""CODE 0x100..0x1ff
----------------
IN: somewhere
0x00000100:  4f8fe220  sdot     v0.4s, v17.16b, v15.4b[0]
0x00000104:  54000000  b.eq     #0x100

Trace 0: 0x7f0ec5800100 [00001001/0000000000000100/00000001/00000200] \n
BEGIN first.onnx
Trace 0: 0x7f0ec5800100 [00001001/0000000000000100/00000001/00000200] \n
----------------
IN: \n
0x00000108:  a9b27bfd  stp      x29, x30, [sp, #-0xe0]!

Trace 0: 0x7f0ec5800240 [00001001/0000000000000108/00000001/00000200] \n
Trace 0: 0x7f0ec5800100 [00001001/0000000000000100/00000001/00000200] \n
----------------
IN: \n
0x00000100:  4f8fe220  sdot     v0.4s, v17.16b, v15.4b[0]

Trace 0: 0x7f0ec5800480 [00001001/0000000000000100/00000001/00000201] \n
Trace 0: 0x7f0ec5800100 [00001001/0000000000000100/00000001/00000200] \n
Trace 1: 0x7f0ec5800100 [00001001/0000000000000100/00000001/00000200] \n
END first.onnx
Trace 0: 0x7f0ec5800100 [00001001/0000000000000100/00000001/00000200] \n
""".splitlines(keepends=True)
LOOP, CALL, SHORT = ("4f8fe220", "54000000"), ("a9b27bfd",), ("4f8fe220",)


@pytest.fixture
def arm_blocks(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module("arm_blocks")


def test_what_runs_between_marks_is_counted_block_by_block(arm_blocks):
    assert arm_blocks.read_log(LOG, "0x100..0x1ff") == {"first.onnx": Counter({LOOP: 3, CALL: 1, SHORT: 1})}


def test_a_log_of_other_addresses_is_refused(arm_blocks):
    with pytest.raises(RuntimeError, match="lies elsewhere"):
        arm_blocks.read_log(LOG, "0x200..0x2ff")


@pytest.mark.parametrize(
    ("instruction", "kind"),
    [
        ("sdot\tv0.4s, v17.16b, v15.4b[0]", "dot products"),
        ("smmla\tv0.4s, v1.16b, v2.16b", "matrix products"),
        ("ldp\tq18, q17, [x1]", "loads"),
        ("st1\t{ v0.16b }, [x0]", "stores"),
        ("smlal2\tv3.8h, v0.16b, v1.16b", "multiplications"),
        ("fmul\tv4.4s, v4.4s, v29.4s", "multiplications"),
        ("sqxtn2\tv4.8h, v24.4s", "other vector"),
        ("madd\tx0, x1, x2, x3", "scalar"),
        ("cbnz\tx0, #-148", "scalar"),
    ],
)
def test_kinds_of_instructions(arm_blocks, instruction, kind):
    assert arm_blocks.kind_of(instruction) == kind
