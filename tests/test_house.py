"""No function and no file grows past what one reads in one go; `ruff` and `mypy` hold the other rules of the house."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST_FUNCTION = 60
LONGEST_FILE = {"qface_toolkit": 300, "benchmarks": 300, "tests": 500, "qface_toolkit/cli": 400}
ALONE = {"qface_toolkit/verifier.py": 800}
"""Files that travel alone, so that nothing can be moved out of them."""
FILES = [file for folder in ("qface_toolkit", "benchmarks", "tests") for file in sorted((ROOT / folder).rglob("*.py"))]


def limit(file):
    place = file.relative_to(ROOT)
    return ALONE.get(str(place)) or LONGEST_FILE.get(str(place.parent)) or LONGEST_FILE[place.parts[0]]


def too_long(file):
    """Return the lines of each function of a file that has too many, and of the file if it has."""
    text = file.read_text("utf-8")
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    long = {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION}
    return long | ({"the file": lines} if (lines := len(text.splitlines())) > limit(file) else {})


def test_nothing_is_too_long_to_read():
    assert {str(file.relative_to(ROOT)): long for file in FILES if (long := too_long(file))} == {}
