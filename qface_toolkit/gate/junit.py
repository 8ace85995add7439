"""JUnit XML, which every CI system can show: a test case for each figure, a suite for each file.

What no check was asked for is a suite of skipped cases.
"""

import unicodedata
from collections.abc import Iterable
from xml.etree import ElementTree

from qface_toolkit.gate.verdict import Finding, Verdict

PASSED = "system-out"
NOT_CHECKED = "not checked"
Case = tuple[str, str, str, str]
"""Suite, name, element and text."""


def to_junit(verdict: Verdict) -> bytes:
    """Return the verdict as JUnit XML; where it is strict, what was skipped fails there too."""
    cases = [(one.artifact, one.figure, *_state(one, verdict.strict)) for one in verdict.findings]
    cases += [(NOT_CHECKED, one.what, "skipped", f"not checked: {one.why}") for one in verdict.unchecked]
    root = ElementTree.Element("testsuites", _counts(cases) | {"name": "qface check"})
    for name in dict.fromkeys(suite for suite, *_ in cases):
        ours = [case for case in cases if case[0] == name]
        suite = ElementTree.SubElement(root, "testsuite", _counts(ours) | {"name": _printable(name)})
        for case in ours:
            _add_case(suite, *case)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _counts(cases: Iterable[Case]) -> dict[str, str]:
    states = [state for _, _, state, _ in cases]
    counted = {"tests": len(states), "failures": states.count("failure"), "skipped": states.count("skipped")}
    return {key: str(count) for key, count in {**counted, "errors": 0}.items()}


def _add_case(suite: ElementTree.Element, name: str, figure: str, state: str, said: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", {"classname": _printable(name), "name": _printable(figure)})
    told = _printable(said)
    part = ElementTree.SubElement(case, state, {} if state == PASSED else {"message": told})
    part.text = told


def _state(finding: Finding, strict: bool) -> tuple[str, str]:
    """Return the element that a case gets, and what it says."""
    if finding.outcome == "passed":
        return PASSED, finding.said
    if finding.outcome == "failed":
        return "failure", finding.said
    return "failure" if strict else "skipped", f"{finding.outcome}: {finding.said}"


def _printable(text: str) -> str:
    """Return text without what XML cannot hold, not even escaped: control characters and halves of pairs."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(sign) in ("Cc", "Cs", "Cn") and sign not in "\n\t" else sign
        for sign in text
    )
