"""torch.ao is due to leave torch: whoever neither inserts observers nor lowers for torch must not notice."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

PROGRAM = """
import json, sys
sys.modules["qface_toolkit.quantize.fx"] = None  # torch itself imports torch.ao, so that cannot be hidden
from qface_toolkit.cli import main
for arguments in json.loads(sys.argv[1]):
    print(arguments, file=sys.stderr)
    try:
        sys.argv = ["qface", *arguments]
        main()
    except SystemExit as ended:
        if ended.code:
            sys.exit(f"{arguments}: {ended.code}")
"""


def run(*verbs):
    """Run verbs of the command line where the one file that imports torch.ao cannot be imported."""
    program = [sys.executable, "-c", PROGRAM, json.dumps([list(map(str, arguments)) for arguments in verbs])]
    return subprocess.run(program, check=False, capture_output=True, text=True)


@pytest.fixture
def result(finished_onnx, tmp_path):
    return shutil.copytree(finished_onnx / "out", tmp_path / "result")


@pytest.fixture
def people(tmp_path):
    """Return a folder of four people with three pictures of noise each."""
    for place in range(12):
        folder = tmp_path / "people" / f"person-{place // 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(place).integers(0, 256, (112, 112, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{place}.png")
    return tmp_path / "people"


@pytest.mark.slow
def test_a_saved_result_is_used_and_exported_again_without_it(result, people):
    report, file = result / "report.json", result / "int8.x86.onnx"
    written = file.read_bytes()
    done = run(
        ("inspect", file),
        ("evaluate", result, "--faces", people),
        ("benchmark", file, result / "float.onnx", "--rounds", "10"),
        ("check", report, "--baseline", report),
        ("export", result, "--backend", "onnx-x86", "--force"),
        ("verify", result),
    )
    assert done.returncode == 0, done.stderr
    assert file.read_bytes() == written


@pytest.mark.slow
def test_inserting_observers_needs_it(result):
    done = run(("inspect", result, "--sensitivity"))
    assert done.returncode != 0
    assert "qface_toolkit.quantize.fx" in done.stderr
