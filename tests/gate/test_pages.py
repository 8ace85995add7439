"""JUnit, Markdown, the terminal and JSON say the same of a verdict, whatever a model or a file is called."""

import json
import re
from dataclasses import replace
from io import StringIO
from xml.etree import ElementTree

import pytest
from made_reports import judged, values
from rich.console import Console

from qface_toolkit.errors import ArtifactError
from qface_toolkit.gate import (
    Finding,
    Unchecked,
    Verdict,
    compare,
    read_budgets,
    render,
    to_junit,
    to_markdown,
    verdict_values,
    write_page,
)
from qface_toolkit.gate.verdict import headline

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "cdata": "]]><failure/>",
    "entity": "&lt;\"'&x;",
    "control": "a\x00b\x1b[31mred\x08",
    "lines": "one\n# two\r\n| three |",
    "markdown": "**bold** [link](http://x) `code` | cell",
    "markup": "[bold red]x[/]",
    "surrogate": "half \ud800",
    "no character": "\ufffe\uffff",
    "long": "x" * 10_000,
    "right to left": "\u202eevil",
}


def verdict_of(name):
    outcomes = ("passed", "failed", "inconclusive", "not comparable")
    return Verdict(tuple(Finding(name, f"figure {one}", one, f"{name} said", 1, 2, 3) for one in outcomes), (name,))


def printed(verdict):
    out = StringIO()
    Console(file=out, width=80).print(render(verdict))
    return out.getvalue()


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_junit_is_xml_whatever_a_file_is_called(name):
    root = ElementTree.fromstring(to_junit(verdict_of(name)))
    assert [one.tag for one in root.iter()].count("testcase") == 4
    assert {one.tag for one in root.iter()} == {
        "testsuites",
        "testsuite",
        "testcase",
        "failure",
        "skipped",
        "system-out",
    }


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_markdown_shows_names_as_they_are(name):
    page = to_markdown(verdict_of(name), name)
    assert "<script" not in page
    assert not re.search(r"(?<!\\)\*\*bold", page)
    assert "\x1b" not in page
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) == 6
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 7 for row in rows)
    assert sum(line.startswith("#") for line in page.splitlines()) == 1


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_terminal_shows_names_as_they_are(name):
    out = printed(verdict_of(name))
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_junit_counts_and_messages():
    root = ElementTree.fromstring(to_junit(verdict_of("int8.x86.onnx")))
    assert {key: root.get(key) for key in ("tests", "failures", "skipped", "errors")} == {
        "tests": "4",
        "failures": "1",
        "skipped": "2",
        "errors": "0",
    }
    (failure,) = root.iter("failure")
    assert failure.get("message") == "int8.x86.onnx said"
    strict = ElementTree.fromstring(to_junit(replace(verdict_of("int8.x86.onnx"), strict=True)))
    assert (strict.get("failures"), strict.get("skipped")) == ("3", "0")


def test_junit_has_a_skipped_case_for_what_no_check_was_asked_for():
    root = ElementTree.fromstring(
        to_junit(Verdict((), unchecked=(Unchecked("cosine_min_fall", "the budget is null"),)))
    )
    (case,) = root.iter("testcase")
    assert (case.get("classname"), case.get("name")) == ("not checked", "cosine_min_fall")
    assert case.find("skipped").get("message") == "not checked: the budget is null"


HEADLINES = {
    "passed": (("passed",), False, "PASSED: 1 of 1 figures compared, all within their budgets."),
    "one skipped": (
        ("passed", "not looked at"),
        False,
        "PASSED, BUT 1 FIGURE WAS NOT LOOKED AT: 1 of 2 figures compared, all within their budgets.",
    ),
    "two skipped": (
        ("passed", "not looked at", "not comparable"),
        False,
        "PASSED, BUT 2 FIGURES WERE NOT LOOKED AT: 1 of 3 figures compared, all within their budgets.",
    ),
    "strict": (
        ("passed", "not comparable"),
        True,
        "FAILED, as nothing may be skipped: 1 of 2 figures compared, all within their budgets, 1 not looked at.",
    ),
    "failed": (
        ("passed", "failed", "failed", "not looked at"),
        False,
        "FAILED: 3 of 4 figures compared, 2 failed, 1 not looked at.",
    ),
    "noise": (
        ("passed", "inconclusive", "not comparable"),
        False,
        "INCONCLUSIVE: 1 of 3 figures compared, all within their budgets, 1 could not be told from noise, "
        "1 not looked at.",
    ),
}


@pytest.mark.parametrize(("outcomes", "strict", "said"), HEADLINES.values(), ids=HEADLINES)
def test_the_first_line_says_how_much_was_looked_at(outcomes, strict, said):
    findings = tuple(Finding("a.onnx", f"figure {place}", one, "why") for place, one in enumerate(outcomes))
    verdict = Verdict(findings, strict=strict)
    assert headline(verdict) == said
    assert " ".join(printed(verdict).split()).startswith(said)
    assert to_markdown(verdict, "tiny").splitlines()[2] == f"**{said}**"
    assert verdict_values(verdict)["said"] == said


def test_figures_that_were_skipped_for_one_reason_are_named_in_one_sentence():
    findings = tuple(Finding(name, "latency_ratio", "not looked at", "latency: no --measure") for name in ("a", "b"))
    verdict = Verdict((*findings, Finding("c", "accuracy", "not comparable", "other images")), strict=True)
    for page in (printed(verdict), to_markdown(verdict, "tiny")):
        assert page.count("skipped: a, b: latency: no") == page.count("skipped: c: other images") == 1


def whole(change=lambda found: None):
    now = values(1)
    change(now)
    return compare(judged(now), judged(values(2)), read_budgets())


def larger(found):
    found["artifacts"][2]["size_bytes"] = 1_200_000


def test_pages_lead_with_the_verdict_and_what_failed():
    verdict = whole(larger)
    page, out = to_markdown(verdict, "tiny"), printed(verdict)
    assert page.splitlines()[:3] == ["## qface check: tiny", "", page.splitlines()[2]]
    assert page.splitlines()[2].startswith("**FAILED: ")
    assert "- FAILED: int8.x86.onnx: 1,200,000 bytes, 9.09 % more than the baseline's 1,100,000" in page
    assert re.search(r"^ok +float.onnx +size_bytes", out, re.MULTILINE)
    assert re.search(r"^FAILED +int8.x86.onnx +size_bytes +1,200,000 +1,100,000 +1,105,500$", out, re.MULTILINE)
    assert out.splitlines()[-1].startswith("FAILED: ")


def test_a_whole_verdict_fits_the_terminal():
    assert max(map(len, printed(whole()).splitlines())) <= 80
    assert "12 of 13 figures compared" in printed(whole())


def test_json_has_every_finding():
    verdict = whole(larger)
    told = json.loads(json.dumps(verdict_values(verdict)))
    assert told["outcome"] == "failed"
    assert len(told["findings"]) == len(verdict.findings)
    found = next(one for one in told["findings"] if one["figure"] == "latency_ratio")
    assert {"low", "high", "value"} == set(found["change"])
    assert (told["compared"], told["total"]) == (12, 13)
    assert [(one["artifact"], one["outcome"]) for one in told["skipped"]] == [("all files", "not looked at")]
    assert told["unchecked"] == [{"what": "cosine_min_fall", "why": "the budget is null"}]


def test_pages_are_appended_or_replaced(tmp_path):
    page = tmp_path / "new" / "summary.md"
    write_page(page, b"one\n", append=True)
    write_page(page, b"two\n", append=True)
    assert page.read_bytes() == b"one\ntwo\n"
    write_page(page, b"three\n")
    assert page.read_bytes() == b"three\n"
    with pytest.raises(ArtifactError):
        write_page(tmp_path / "new" / "summary.md" / "x", b"")
