"""report.md: the figures a person needs, and nothing that a hostile name could turn into markup."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qface_toolkit.report.markdown import escape, to_markdown


def lines(report):
    return to_markdown(report).splitlines()


def test_each_file_that_was_compared_on_fewer_images_is_named(values, make):
    known = {one["name"]: one for one in values["artifacts"]}
    float_file, integer_file = known["float.onnx"], known["int8.x86.onnx"]
    float_file["agreement"] = integer_file["agreement"] | {"images": 64}
    found = [line for line in lines(make(values)) if line.startswith("- cosine: ")]
    assert found == [f"- cosine: 256 images, drawn faces, against float.onnx; 64 of {escape(float_file['name'])}"]


def test_verdict_has_size_speed_agreement_and_accuracy(report):
    assert lines(report)[:3] == [
        r"# mobilefacenet\_prelu, compressed",
        "",
        "int8.x86.onnx takes 1.10 MB instead of the 4.00 MB of float.onnx (27.5 %). It runs 1.25 times as fast as "
        "float.fast.onnx, the float model written for speed; beside float.onnx, the plain export, it runs 2.50 times "
        "as fast (ONNX Runtime, 1 thread). Its embeddings agree with the float model's to a mean cosine of 0.9912, "
        "where 1 is no difference (lowest of 256 drawings: 0.9412). Whether two drawings show the same drawn person, "
        "it gets 97.1 % of the pairs right (float: 97.3 %). Accuracy on real faces was not measured: "
        "qface evaluate DIR --faces PEOPLE --out DIR measures it (DIR: this result's folder; PEOPLE: a folder of "
        "aligned face crops for each person).",
    ]


@pytest.mark.parametrize(
    ("fast", "plain", "said"),
    [
        (
            0.8,
            2.5,
            "float.fast.onnx, the float model written for speed: it takes 1.25 times as long; beside float.onnx",
        ),
        (0.8, 2.5, "beside float.onnx, the plain export, it runs 2.50 times as fast (ONNX Runtime, 1 thread)"),
        (0.8, 0.5, "beside float.onnx, the plain export, it takes 2.00 times as long (ONNX Runtime, 1 thread)"),
        (None, 0.8, "int8.x86.onnx is slower than float.onnx: it takes 1.25 times as long (ONNX Runtime, 1 thread)"),
    ],
)
def test_slower_is_an_alarm(values, make, fast, plain, said):
    values["artifacts"][1] |= {"times_faster_than_fast": fast, "times_faster": plain}
    alarm = next(line for line in lines(make(values)) if line.startswith("> **Alarm:**"))
    assert said in alarm


@pytest.mark.parametrize("ratio", [1.004, 0.996])
def test_what_is_shown_as_no_difference_is_called_none(values, make, ratio):
    values["artifacts"][1]["times_faster_than_fast"] = ratio
    text = to_markdown(make(values))
    assert "It is neither faster nor slower than float.fast.onnx" in text
    assert "Alarm" not in text


@pytest.mark.parametrize(("spread", "ratio", "alarm"), [(0.5, 0.94, False), (0.001, 0.94, True), (0.5, 1.06, False)])
def test_noise_is_neither_faster_nor_slower(values, make, spread, ratio, alarm):
    noise = np.exp(np.random.default_rng(0).normal(0, spread, 40))
    for artifact, each in ((values["artifacts"][1], noise / ratio), (values["artifacts"][3], noise[::-1])):
        artifact["latency"]["samples_ms"] = list(5 * each)
    values["artifacts"][1]["times_faster_than_fast"] = ratio
    text = to_markdown(make(values))
    assert ("is slower than float.fast.onnx" in text) is alarm
    assert ("neither faster nor slower" in text) is not alarm


def test_what_a_speed_is_compared_with_is_told_where_there_is_no_fast_form(values, make):
    values["artifacts"][1] |= {"times_faster_than_fast": None, "times_faster": 1.8, "runtime": "torch"}
    text = to_markdown(make(values))
    assert (
        "as the float model in torch; float.fast.onnx is for ONNX Runtime and was not compared (torch, 1 thread)"
        in text
    )


def test_nothing_quantized_is_said_plainly(values, make):
    values["artifacts"], values["verification"] = values["artifacts"][:1], None
    assert "Nothing was quantized." in lines(make(values))


def test_table_compares_float_and_compressed(report):
    rows = lines(report)
    assert "| float.onnx | ONNX Runtime | 4.00 | 100.0 % | 10.0 | 11.0 | - | 1.00x | - | - | - |" in rows
    fast = "| 4.10 | 102.5 % | 5.00 | 5.50 | 1.00x | 2.00x | - | - | - |"
    assert f"| float.fast.onnx | ONNX Runtime {fast}" in rows
    int8 = "| 1.10 | 27.5 % | 4.00 | 4.40 | 1.25x | 2.50x | 0.9912 | 0.9712 | 0.9412 |"
    assert f"| int8.x86.onnx | ONNX Runtime {int8}" in rows
    assert "| float model | torch | - | - | 20.0 | 22.0 | - | 1.00x | - | - | - |" in rows
    assert "| int8.qnnpack.ts | torch | 1.20 | 30.0 % | - | - | - | - | 0.9800 | 0.9600 | 0.9300 |" in rows
    assert "- int8.qnnpack.ts was not timed: no qnnpack here" in rows


def test_every_row_has_as_many_cells_as_its_heading(report):
    tables = re.findall(r"(?:^\|.*\|\n)+", to_markdown(report), flags=re.M)
    assert len(tables) == 9
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1


@pytest.mark.parametrize(
    "fact",
    [
        "- set: drawings (procedural)",
        "- images: 512, seed 0",
        "- free of real face data: yes: these images are drawings",
        "- recipe: int8",
        "- seed: 0",
        r"- CPU: AMD EPYC, 2 cores, x86\_64",
        r"- flags: avx2 avx512\_vnni",
        "- versions: numpy 2.4.6, torch 2.13.0",
        "- note: dropped the classifier head",
        "- peak memory: 1024 MiB",
        "| calibrate | 12.5 |",
        "| in all | 15.0 |",
        "| int8.x86.onnx | 97.1 % | 1.0 % | 6000 | 88.0 % |",
        "| int8.qnnpack.ts | - | - | - | - | - |",
        "| int8.x86.onnx | - | - | 96.0 % | >0.9999 | 0.9500 |",
        "int8.x86.onnx computes in float: embedding.",
        "    qface compress model.ckpt --out out --recipe int8",
        "    session = onnxruntime.InferenceSession('int8.x86.onnx')",
        "    torch.backends.quantized.engine = 'qnnpack'  # before loading, or the numbers are wrong",
    ],
)
def test_facts_are_told(report, fact):
    assert fact in lines(report)


def test_input_is_described(report):
    text = to_markdown(report)
    assert r"float32 \[N, 3, 112, 96\], colour order bgr" in text
    assert "mean 127.5 127.5 127.5 and std 58.395 57.12 57.375" in text


def test_a_report_without_verification_has_no_such_section(values, make):
    values["verification"] = None
    assert "Telling people apart" not in to_markdown(make(values))


HOSTILE = "a|b\n# c <script>alert(1)</script> [x](javascript:y) ![z](http://w) `d` \x1b[31m \u202e **e**"


def test_hostile_names_stay_text(values, make):
    harmless = len(lines(make(values)))
    values["source"]["name"] = values["source"]["notes"][0] = values["commands"][0] = HOSTILE
    values["recipe"]["name"] = values["environment"]["cpu"] = values["steps"][0]["name"] = HOSTILE
    values["artifacts"][2]["name"] = values["artifacts"][2]["latency_missing"] = HOSTILE
    values["parity"]["codes"][1]["differing"][0]["tensor"] = HOSTILE
    values["parity"]["layers"]["tensors"][1]["tensor"] = HOSTILE
    values["artifacts"][1]["float_islands"] = values["calibration"]["warnings"] = [HOSTILE]
    text = to_markdown(make(values))
    outside_code = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    # One line more: the calibration set had no warning before.
    assert len(text.splitlines()) == harmless + 1
    assert "<" not in outside_code
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not re.search(r"(?<!\\)\[x", outside_code)
    assert not re.search(r"(?<!\\)`", outside_code)


@pytest.mark.slow
@given(st.text())
def test_escaped_text_is_one_line_without_bare_markup(text):
    escaped = escape(text)
    assert len(escaped.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]|~#<>]", re.sub(r"\\[\\`*_\[\]|~#]", "", escaped))


def test_files_that_take_pixels_are_fed_pixels(values, make):
    values["recipe"]["values"]["export"] = {"input": "uint8"}
    told = lines(make(values))
    assert "    # pixels as they are: uint8 [N, 112, 96, 3], RGB" in told
    fed = [line.split("{")[1] for line in told if "session.run" in line]
    # float.onnx, int8.x86.onnx, float.fast.onnx
    assert fed == ['"input": images})', '"image": pixels})', '"input": images})']
