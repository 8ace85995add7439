"""JUnit XML, which every CI system can show: a test case for each figure, a suite for each file."""

import unicodedata
from collections.abc import Iterable
from xml.etree import ElementTree

from qface_toolkit.gate.verdict import Finding, Verdict


def to_junit(verdict: Verdict, *, strict: bool = False) -> bytes:
    """Return the verdict as JUnit XML; with `strict`, what is inconclusive fails there too."""
    root = ElementTree.Element("testsuites", _counts(verdict.findings, strict) | {"name": "qface check"})
    for name in dict.fromkeys(one.artifact for one in verdict.findings):
        ours = [one for one in verdict.findings if one.artifact == name]
        suite = ElementTree.SubElement(root, "testsuite", _counts(ours, strict) | {"name": _printable(name)})
        for finding in ours:
            _add_case(suite, finding, strict)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _counts(findings: Iterable[Finding], strict: bool) -> dict[str, str]:
    states = [_state(one, strict) for one in findings]
    counted = {"tests": len(states), "failures": states.count("failure"), "skipped": states.count("skipped")}
    return {key: str(count) for key, count in {**counted, "errors": 0}.items()}


def _add_case(suite: ElementTree.Element, finding: Finding, strict: bool) -> None:
    name = _printable(finding.artifact)
    case = ElementTree.SubElement(suite, "testcase", {"classname": name, "name": _printable(finding.figure)})
    said, state = _printable(finding.said), _state(finding, strict)
    if state is None:
        ElementTree.SubElement(case, "system-out").text = said
    else:
        told = said if finding.outcome == "failed" else f"{finding.outcome}: {said}"
        part = ElementTree.SubElement(case, state, {"message": told})
        part.text = told


def _state(finding: Finding, strict: bool) -> str | None:
    if finding.outcome == "failed" or (strict and finding.outcome == "inconclusive"):
        return "failure"
    return None if finding.outcome == "passed" else "skipped"


def _printable(text: str) -> str:
    """Return text without what XML cannot hold, not even escaped: control characters and halves of pairs."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(sign) in ("Cc", "Cs", "Cn") and sign not in "\n\t" else sign
        for sign in text
    )
