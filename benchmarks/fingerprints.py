"""Fingerprint all that the toolkit writes, so that a rebuilt house can be held against the one before it, bit by bit.

    python benchmarks/fingerprints.py record BEFORE.json          # some small networks, every backend: a minute or two
    python benchmarks/fingerprints.py compare BEFORE.json         # exit code 1 and the names of what differs
    python benchmarks/fingerprints.py record BEFORE.json --checkpoint FILE ...      # whole recipes on real ones, slower

Bytes depend on the machine's kind, so a record is made on the machine where it is compared, from an earlier checkout
(`git worktree add`, with PYTHONPATH naming it). Every file but reports and pages is hashed; golden.npz by array, since
zip files hold the time. Of report.json every figure is kept but times, and what follows from times.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is there: threads that wait shall not spin

import torch
from torch import nn

import qface_toolkit as qf

PAGES = re.compile(r"\.(md|html|png)$|^(manifest|report)\.json$|^work/|^progress")
TIMES = re.compile(
    r"cost\.kinds|peak_memory|recipe\.name|Reorder|seconds|_ms|ms_|times_faster|latency|load|environment|versions|timing|steps|\.at$|faster|turns|notes"
)
QUICK = (
    "version: 1\ncalibration: {set: noise, count: 24, batch_size: 8}\n"
    "steps: [{equalize: {}}, {calibrate: {observer: minmax}}, {correct_bias: {}}]\n"
)
LEARNED = QUICK.replace("{correct_bias: {}}", "{reconstruct: {images: 16, iterations: 4, batch_size: 8}}")
DEFAULTS = ("onnx-x86", "onnx-arm", "torch-x86", "torch-qnnpack")
EVERY = (*DEFAULTS, "torch-fbgemm", "torch-onednn", "onnx-packed", "openvino")


class Gated(nn.Module):
    """A gate over channels as squeeze-and-excitation has it, in either spelling of its sigmoid, and PReLU."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.first, self.act = nn.Conv2d(3, 8, 3, 2, 1), nn.PReLU(8)
        self.pool, self.down, self.mid = nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.ReLU()
        self.up, self.gate = nn.Conv2d(4, 8, 1), gate
        self.last, self.flat, self.out = nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.Flatten(), nn.Linear(8 * 8 * 8, 16)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.act(self.first(images))
        x = x * self.gate(self.up(self.mid(self.down(self.pool(x)))))
        return self.out(self.flat(self.last(x)))


class Joined(nn.Module):
    """Branches that are concatenated and added, ReLU6 and leaky slopes, pools of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.six, self.pool = nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU6(), nn.MaxPool2d(3, 2, 1)
        self.left, self.right, self.leaky = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 3, 1, 1), nn.LeakyReLU(0.2)
        self.join, self.mean = nn.Conv2d(12, 8, 1), nn.AvgPool2d(2)
        self.flat, self.out = nn.Flatten(), nn.Linear(8 * 4 * 4, 16)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.six(self.first(images)))
        both = torch.cat([self.left(x), self.leaky(self.right(x))], 1)
        return self.out(self.flat(self.mean(self.join(both) + x)))


def seeded(build: Callable[[], nn.Module]) -> qf.FloatModel:
    """Build a network of 32x32 images whose PReLU has slopes of every kind."""
    torch.manual_seed(7)
    network = build()
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            module.weight.data.copy_(torch.tensor([0.0, 0.25, -0.5, 1.7, 1.0, -1e-6, 0.1, 3.1]))
    return qf.from_module(network, input_size=(32, 32), name="small")


def quick_jobs() -> Iterator[tuple[str, Callable[[], Any], dict[str, Any]]]:
    """Yield the name, the source and the options of jobs that take seconds each."""
    gated, hard, joined = (
        lambda: seeded(lambda: Gated(nn.Sigmoid())),
        lambda: seeded(lambda: Gated(nn.Hardsigmoid())),
        lambda: seeded(Joined),
    )
    yield "demo", lambda: "demo", {"recipe": LEARNED, "backends": EVERY}
    yield "gated", gated, {"recipe": QUICK, "backends": EVERY}
    yield "hard", hard, {"recipe": QUICK, "backends": ("onnx-x86", "onnx-arm", "onnx-packed")}
    yield "joined", joined, {"recipe": QUICK, "backends": EVERY}
    pair = ("onnx-x86", "onnx-arm")
    yield "uint8", joined, {"recipe": QUICK, "sets": ["export.input=uint8"], "backends": pair}
    yield "old", gated, {"recipe": QUICK, "sets": ["target.onnxruntime=1.18"], "backends": pair}
    yield "no-vnni", gated, {"recipe": QUICK, "sets": ["target.vnni=false"], "backends": (*pair, "torch-fbgemm")}
    yield "mixed", joined, {"recipe": QUICK, "sets": ["budget.cosine_mean=0.99999"], "backends": ("onnx-x86",)}
    six = ["scheme.weights.bits=6"]
    yield "six", gated, {"recipe": LEARNED, "sets": six, "backends": ("onnx-packed", "onnx-x86")}


def whole_jobs(checkpoint: str) -> Iterator[tuple[str, Callable[[], Any], dict[str, Any]]]:
    """Yield the shipped recipes on a checkpoint, the learning ones cut short: the same code, fewer rounds."""
    name = Path(checkpoint).name
    yield f"{name} int8-fast", lambda: checkpoint, {"recipe": "int8-fast"}
    few = ["calibration.count=64", "steps.2.images=64", "steps.2.iterations=8"]
    yield f"{name} int8", lambda: checkpoint, {"recipe": "int8", "sets": few}
    small = ["calibration.count=64", "steps.3.images=64", "steps.3.iterations=8"]
    yield f"{name} small", lambda: checkpoint, {"recipe": "small", "sets": small}


def figures(value: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each plain value of a report under its path, times left out."""
    if TIMES.search(path):
        return
    if isinstance(value, dict):
        for key in sorted(value):
            yield from figures(value[key], f"{path}.{key}")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from figures(one, f"{path}.{index}")
    elif value is not None:
        yield path, value


def fingerprint(folder: Path) -> dict[str, Any]:
    """Return the hash of every file of a result, and the report's figures."""
    prints: dict[str, Any] = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if file.is_dir() or PAGES.search(name):
            continue
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                for key in arrays.files:
                    prints[f"{name}:{key}"] = hashlib.sha256(np.ascontiguousarray(arrays[key]).tobytes()).hexdigest()
        else:
            prints[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    prints |= {f"report{path}": one for path, one in figures(json.loads((folder / "report.json").read_text("utf-8")))}
    return prints


def run(jobs: Iterator[tuple[str, Callable[[], Any], dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Do every job in a folder of its own and return its fingerprint."""
    prints = {}
    for name, source, options in jobs:
        with tempfile.TemporaryDirectory() as scratch:
            recipe = Path(scratch) / "recipe.yaml"
            recipe.write_text(options["recipe"], "utf-8")
            given = str(recipe) if "\n" in options["recipe"] else options["recipe"]
            qf.compress(source(), out=Path(scratch) / "out", **options | {"recipe": given})
            prints[name] = fingerprint(Path(scratch) / "out")
        print(f"{name}: {len(prints[name])} fingerprints", file=sys.stderr)
    return prints


def differences(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> list[str]:
    """Return a line for everything that is not the same in both."""
    lines = []
    for job, prints in after.items():
        old = before.get(job, {})
        for key in sorted(old.keys() | prints.keys()):
            if old.get(key) != prints.get(key) and not TIMES.search(key.removeprefix("report")):
                lines.append(f"{job}: {key}: {old.get(key)} -> {prints.get(key)}")
    return lines


def main() -> None:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--checkpoint", nargs="*", default=())
    parser.add_argument("--only", nargs="*", default=(), help="names of jobs")
    given = parser.parse_args()
    # Two at once on one machine would take many times as long as one after the other.
    lock = (Path(tempfile.gettempdir()) / "qface-fingerprints.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    jobs = (*quick_jobs(), *(job for checkpoint in given.checkpoint for job in whole_jobs(checkpoint)))
    prints = run(job for job in jobs if not given.only or job[0] in given.only)
    if given.action == "record":
        given.file.write_text(json.dumps(prints, indent=1) + "\n", "utf-8")
        return
    lines = differences(json.loads(given.file.read_text("utf-8")), prints)
    print("\n".join(lines) or "all the same")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
