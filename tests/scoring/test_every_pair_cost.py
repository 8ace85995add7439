"""What comparing every two images may cost: the promise is memory that does not grow with the pairs, and seconds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "every_pair.py"


@pytest.mark.slow
def test_fourteen_million_pairs_take_seconds_and_little_memory():
    command = [sys.executable, str(PROGRAM), "--images", "5373", "--size", "512"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"^([\d,]+) pairs of 5373 x 512: ([\d.]+) s, (\d+) MiB at most", said, re.MULTILINE)
    assert found, said
    assert int(found[1].replace(",", "")) == 5373 * 5372 // 2
    assert float(found[2]) < 10, said
    assert int(found[3]) < 1024, said
