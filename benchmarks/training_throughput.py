"""How much of a plain PyTorch loop's throughput a training gets, and what a second process adds.

    python benchmarks/training_throughput.py --save benchmarks/results/training_throughput.json

The plain loop learns the same loss from a teacher, on batches that lie decoded, changed and prepared in memory. Loops
take turns after each has run once, since a new process is given its memory then; figures are images a second, medians
over rounds. Ours runs in bfloat16 too. Two processes have one thread each, as the one that they are held against.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from qface_toolkit._process import settle_process
from qface_toolkit.datasets import Opening, open_data
from qface_toolkit.environment import record_environment, usable_cores
from qface_toolkit.models import build_student, load_model
from qface_toolkit.pipeline._course import make_course
from qface_toolkit.pipeline._training_plan import TrainingPlan, plan_training
from qface_toolkit.ranks import ALONE
from qface_toolkit.report.training import read_training
from qface_toolkit.training.course import Nowhere
from qface_toolkit.training.losses import distance
from qface_toolkit.training.pupil import quicken

IMAGES, BATCH = 256, 64
SETS = ("epochs=1", f"batch_size={BATCH}", "loss.classes=0", "snapshots=false", "data.held_out=0")


_PRECISIONS = ("float32", "bfloat16")
_PLAIN = {"plain": False, "plain, quickened": True}
"""Loops to compare with: with the network as it is, and with what makes ours quick."""


def plan_for(student: str, folder: Path, threads: int, width: float, precision: str) -> TrainingPlan:
    """Return a training from the demo model on some drawings."""
    sets = [*SETS, f"data.count={IMAGES}", f"data.cache={folder}", f"width={width}", f"precision={precision}"]
    return plan_training(student, teachers=["demo"], data="drawings", sets=sets, threads=threads)


def our_loop(plan: TrainingPlan, data: Any) -> Callable[[], float]:  # noqa: ANN401 - a FaceData
    """Return what runs our loop for an epoch, and says how many images a second it learnt from."""

    def run() -> float:
        course = make_course(plan, data, None, ALONE, Nowhere(), lambda done, total: None)
        started = time.perf_counter()
        course.run()
        return IMAGES / (time.perf_counter() - started)

    return run


def plain_loop(plan: TrainingPlan, data: Any, *, quick: bool) -> Callable[[], float]:  # noqa: ANN401 - a FaceData
    """Return what runs a plain loop over tensors that are ready; the teacher is asked in it, as in ours."""
    student, teacher = plan.student, load_model("demo")
    crops = [data.example(index).crop for index in range(IMAGES)]
    parts = [crops[at : at + BATCH] for at in range(0, IMAGES, BATCH)]
    last = torch.channels_last
    batches = [
        tuple(
            torch.from_numpy(spec.preprocess(np.stack(part))).contiguous(memory_format=last)
            for spec in (student.spec, teacher.spec)
        )
        for part in parts
    ]
    network = build_student("pocketnet-s-128", width=plan.recipe.width).network
    network = network.train().to(memory_format=last)  # type: ignore[call-overload]  # torch's stubs leave it out
    if quick:
        quicken(network)
    taught = teacher.network.eval().to(memory_format=last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)

    def run() -> float:
        started = time.perf_counter()
        for images, seen in batches:
            with torch.no_grad():
                wanted = taught(seen)
            loss = 100 * distance(network(images), wanted, "mse")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
        return IMAGES / (time.perf_counter() - started)

    return run


def processes(student: str, folder: Path, count: int, width: float) -> float:
    """Return the images a second of so many processes with one thread each."""
    out = folder / f"ranks-{count}"
    command = [sys.executable, "-m"]
    command += ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m"] if count > 1 else []
    command += ["qface_toolkit", "train", student, "--teacher", "demo", "--data", "drawings", "--out", str(out), "-q"]
    command += ["--threads", "1", "--force"]
    for one in (*SETS, "epochs=2", f"data.count={IMAGES}", f"data.cache={folder}", f"width={width}"):
        command += ["--set", one]
    subprocess.run(command, check=True, capture_output=True)
    # In the first epoch a new process is given its memory, which a training of hours does not notice.
    return IMAGES / read_training(out / "training.json").epochs[-1].seconds


def main() -> None:
    """Time all loops in turns and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="pocketnet-s-128")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", type=Path)
    wanted = parser.parse_args()
    threads = usable_cores()
    torch.set_num_threads(threads)
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plans = {kind: plan_for(wanted.student, folder, threads, wanted.width, kind) for kind in _PRECISIONS}
        plan = plans["float32"]
        data = open_data("drawings", Opening(count=IMAGES, cache=folder))
        loops = {kind: plain_loop(plan, data, quick=quick) for kind, quick in _PLAIN.items()}
        loops |= {"ours": our_loop(plan, data), "ours in bfloat16": our_loop(plans["bfloat16"], data)}
        for run in loops.values():
            run()
        for _ in range(wanted.rounds):
            for kind, run in loops.items():
                found[kind].append(run())
            for kind, count in (("one process", 1), ("two processes", 2)):
                found[kind].append(processes(wanted.student, folder, count, wanted.width))
            print({kind: round(values[-1], 2) for kind, values in found.items()}, flush=True)
    middle = {kind: median(values) for kind, values in found.items()}
    ratios = {
        "ours against plain": middle["ours"] / middle["plain"],
        "ours against plain, quickened": middle["ours"] / middle["plain, quickened"],
        "bfloat16 against float32": middle["ours in bfloat16"] / middle["ours"],
        "two processes against one": middle["two processes"] / middle["one process"],
    }
    print({kind: round(value, 3) for kind, value in ratios.items()})
    if wanted.save:
        environment = record_environment(0, threads).model_dump(mode="json")
        values = {"environment": environment, "images_per_second": found, "ratios": ratios}
        wanted.save.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    settle_process()
    main()
