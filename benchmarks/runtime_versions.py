"""Run the ONNX files of finished results in several releases of ONNX Runtime, each in an environment of its own.

    python benchmarks/runtime_versions.py OUT... --save benchmarks/results/runtime_versions.json

Installs each release with pip (into --venvs, to keep them for another time), prints a Markdown table and keeps the
figures: the verdict on the golden vectors and how many times as fast as float.onnx in the same release.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qface_toolkit.environment import record_environment

CHECK = Path(__file__).with_name("one_runtime.py")
RELEASES: Mapping[str, tuple[str, ...]] = {
    "1.18.1": ("onnxruntime==1.18.1", "numpy<2"),
    "1.20.1": ("onnxruntime==1.20.1", "numpy"),
    "1.24.1": ("onnxruntime==1.24.1", "numpy"),
    "newest": ("onnxruntime", "numpy"),
}
"""Release -> what pip installs; the oldest was built against the numpy of its time."""


def python_of(release: str, folder: Path) -> Path:
    """Return the Python of an environment with a release, made unless it is there."""
    python = folder / release / "bin" / "python"
    if not python.exists():
        venv.create(folder / release, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *RELEASES[release]], check=True)
    return python


def check(release: str, folder: Path, results: list[Path]) -> dict[str, Any]:
    """Return what one release makes of the results."""
    command = [str(python_of(release, folder)), str(CHECK), *map(str, results)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def cell(figures: Mapping[str, Any]) -> str:
    """Return one file in one release as a table shows it."""
    verdict = figures["verdict"]
    cosine = f" {figures['cosine_min']:.4f}" if verdict == "differs" and figures["cosine_min"] is not None else ""
    speed = f", {figures['times_faster']:.2f}x" if "times_faster" in figures else ""
    return f"{verdict}{cosine}{speed}"


def table(releases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the verdicts and speeds as a Markdown table, one row a file and one column a release."""
    headings = ["result", "file", *(found["versions"]["onnxruntime"] for found in releases.values())]
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    first = next(iter(releases.values()))["results"]
    for result, files in first.items():
        for name in files:
            cells = [cell(found["results"][result][name]) for found in releases.values()]
            lines.append(f"| {' | '.join([result, name, *cells])} |")
    return lines


def main() -> None:
    """Check the results named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="+", type=Path)
    parser.add_argument("--venvs", type=Path, help="where to keep the environments; thrown away if not given")
    parser.add_argument("--save", type=Path)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, releases = wanted.venvs or Path(temporary), {}
        for release in RELEASES:
            print(f"onnxruntime {release}", file=sys.stderr, flush=True)
            releases[release] = check(release, folder.resolve(), [one.resolve() for one in wanted.out])
    print("\n".join(table(releases)))
    if wanted.save:
        environment = record_environment(0, 1).model_dump()
        wanted.save.write_text(json.dumps({"environment": environment, "releases": releases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
