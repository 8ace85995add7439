"""Compare how long whole jobs take with what `qface compress --dry-run` says of them.

    python benchmarks/job_seconds.py prelu=FILE.ckpt relu6=FILE.pt demo iresnet50 --save FILE.json
    python benchmarks/job_seconds.py prelu=FILE.ckpt --recipes int8-fast --runs 3 --beside 1

A model is NAME=FILE, the word demo, or the name of an architecture to build with random weights. Each job is the whole
command in a process of its own, its start included; the median of --runs. With --beside so many processes do nothing
but keep a core busy meanwhile. --save replaces these jobs in a file and leaves the others.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from random_networks import random_network

from qface_toolkit.environment import record_environment, usable_cores

COMMAND = [sys.executable, "-m", "qface_toolkit", "compress"]
MEASURING = "measure"


def checkpoint(wanted: str, folder: Path) -> tuple[str, str]:
    """Return the name of a model and the file, or the word, that the command takes for it."""
    name, given, path = wanted.partition("=")
    if given or name == "demo":
        return name, path or name
    file = folder / f"{name}.pth"
    torch.save(random_network(name).network.state_dict(), file)
    return name, str(file)


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many processes running that take all that a core has."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


def expected(arguments: list[str]) -> dict[str, float]:
    """Return what --dry-run says: seconds for the steps, for measuring, and for all."""
    told = subprocess.run(
        [*COMMAND, *arguments, "--out", "none", "--dry-run", "--json"], check=True, capture_output=True
    )
    seconds: dict[str, float] = json.loads(told.stdout)["seconds"]
    return seconds


def run_once(arguments: list[str], out: Path) -> dict[str, Any]:
    """Return the seconds of one job: all, measuring, and each step; and those of its processes on a core."""
    before, started = os.times(), time.perf_counter()
    subprocess.run([*COMMAND, *arguments, "--out", str(out), "--force", "--quiet"], check=True, capture_output=True)
    taken, after = time.perf_counter() - started, os.times()
    steps = {step["name"]: step["seconds"] for step in json.loads((out / "report.json").read_text())["steps"]}
    core = after.children_user + after.children_system - before.children_user - before.children_system
    return {"all": taken, "measuring": steps[MEASURING], "core": core, "each": steps}


def save(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows to a file; those of other jobs that it holds stay."""
    jobs = {_job(row): row for row in (json.loads(file.read_text())["jobs"] if file.exists() else [])}
    jobs |= {_job(row): row for row in rows}
    found = {"environment": record_environment(0, usable_cores()).model_dump(), "jobs": list(jobs.values())}
    file.write_text(json.dumps(found, indent=1) + "\n")


def _job(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["model"], row["recipe"], row["beside"]


def main() -> None:
    """Run every job, print a table, and save all of it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", metavar="NAME[=FILE]")
    parser.add_argument("--recipes", default="int8-fast,int8")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--beside", type=int, default=0, metavar="N", help="busy processes")
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, busy(options.beside):
        for wanted in options.models:
            name, file = checkpoint(wanted, Path(folder))
            for recipe in options.recipes.split(","):
                arguments = [file, "--recipe", recipe]
                told, runs = (
                    expected(arguments),
                    [run_once(arguments, Path(folder) / "out") for _ in range(options.runs)],
                )
                row = {"model": name, "recipe": recipe, "beside": options.beside, "expected": told, "runs": runs}
                row["load_average"] = os.getloadavg()[0]
                rows.append(row)
                taken, measuring = (median(run[key] for run in runs) for key in ("all", "measuring"))
                print(
                    f"{name:12} {recipe:10} took {taken:6.1f} s, {measuring / taken:4.0%} of it measuring; expected "
                    f"{told['all']:6.1f}, which is {told['all'] / taken:.2f} of it",
                    flush=True,
                )
    if options.save:
        save(options.save, rows)


if __name__ == "__main__":
    main()
