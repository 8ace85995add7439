"""No function and no file grows past what one reads in one go; `ruff` and `mypy` hold the other rules of the house."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FUNCTION = 60
LONGEST_FILE = {"qface_toolkit": 300, "benchmarks": 300, "tests": 500, "qface_toolkit/cli": 400}
ALONE = {"qface_toolkit/verifier.py": 800}
"""Files that travel alone, so that nothing can be moved out of them."""
FILES = [file for folder in ("qface_toolkit", "benchmarks", "tests") for file in sorted((ROOT / folder).rglob("*.py"))]


def limit(file):
    place = file.relative_to(ROOT)
    return ALONE.get(str(place)) or LONGEST_FILE.get(str(place.parent)) or LONGEST_FILE[place.parts[0]]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_is_too_long_to_read(file):
    text = file.read_text("utf-8")
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert {name: lines for name, lines in long.items() if lines > LONGEST_FUNCTION} == {}
    assert len(text.splitlines()) <= limit(file)
