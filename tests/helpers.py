"""What the tests of the whole job share: a tiny checkpoint, and the command, run here or in a process of its own."""

import errno
import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from qface_toolkit import cli, pipeline
from qface_toolkit.evidence import collect, load, sensitivity, speed
from qface_toolkit.models.mobilefacenet import Bottleneck, MobileFaceNetPlan, PReLUMobileFaceNet
from qface_toolkit.pipeline import _planning
from qface_toolkit.sources._sets import find_set
from qface_toolkit.untrusted import writing

SMALL_SETS = ("calibration.count=16", "budget.floor_cosine=null")
"""Few images, and no floor: weights that are random lose much in eight bits."""
SMALL = ("--recipe", "int8-fast", *(word for text in SMALL_SETS for word in ("--set", text)))
EMBEDDING = 32
WIDTH = 8
BOTTLENECKS = tuple(
    Bottleneck(entering * WIDTH, hidden * WIDTH, leaving * WIDTH, stride)
    for entering, hidden, leaving, stride in ((1, 2, 1, 2), (1, 4, 2, 2), (2, 4, 2, 1), (2, 8, 2, 2), (2, 4, 2, 1))
)


@functools.cache
def tiny_network():
    """Return a narrow MobileFaceNet whose weights are random and whose BatchNorm statistics are those of drawings."""
    torch.manual_seed(0)
    plan = MobileFaceNetPlan(
        "mobilefacenet", PReLUMobileFaceNet, WIDTH, BOTTLENECKS, head=32, embedding_size=EMBEDDING, kernel=(7, 6)
    )
    network = plan.build().train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain average of all batches, here of one
    images = find_set("drawings-heldout").open(count=16)
    crops = np.stack([images.crop(index) for index in range(16)])[:, :, 8:104]
    with torch.no_grad():
        network(torch.from_numpy(crops.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 128)
    return network.eval()


def write_tiny(path, change=lambda state: state):
    """Write the tiny network's state dict, after `change`, as its public checkpoints are, and return the path."""
    state = {key: tensor.clone() for key, tensor in tiny_network().state_dict().items()}
    torch.save({"net_state_dict": change(state)}, path)
    return path


def measure_quickly(monkeypatch):
    """Measure on few images and in few rounds, on one thread: the files do not depend on it."""
    for name, value in (("AGREEMENT_IMAGES", 32), ("SIMULATION_IMAGES", 16)):
        monkeypatch.setattr(collect, name, value)
    monkeypatch.setattr(speed, "LATENCY_ROUNDS", 10)
    monkeypatch.setattr(sensitivity, "JOB_IMAGES", 4)
    monkeypatch.setattr(load, "LOADS", 1)
    monkeypatch.setattr(_planning, "usable_cores", lambda: 1)


def compress_tiny(folder, *backends):
    """Write the tiny checkpoint and a finished result of it, folder/tiny.pth and folder/out; return the folder."""
    with pytest.MonkeyPatch.context() as patch:
        measure_quickly(patch)
        checkpoint = write_tiny(folder / "tiny.pth")
        job = pipeline.plan_job(checkpoint, recipe="int8-fast", sets=SMALL_SETS, backends=backends)
        pipeline.run_job(job, folder / "out")
    return folder


def run_here(monkeypatch, capsys, *args):
    """Run the command in this process; return its exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["qface", *map(str, args)])
    capsys.readouterr()
    try:
        cli.main()
    except SystemExit as stop:
        code = 0 if stop.code is None else stop.code
    out, err = capsys.readouterr()
    return code, out, err


def start(*args, **options):
    """Start the command in a process of its own, on one core as the runs in this process are on one thread."""
    command = [sys.executable, "-m", "qface_toolkit", *map(str, args)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **streams, preexec_fn=_like_a_terminal, **options)


def run_apart(*args, **options):
    """Run the command in a process of its own; return its exit code, stdout and stderr."""
    with start(*args, **options) as process:
        out, err = process.communicate()
    return process.returncode, out, err


def _like_a_terminal():
    """Take Ctrl-C even where this test run is a background job, which ignores it; every worker has its own core."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cores, worker = sorted(os.sched_getaffinity(0)), int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    os.sched_setaffinity(0, {cores[worker % len(cores)]})


def wait_for(process, line):
    """Read the process's stderr until a line says this."""
    for said in process.stderr:
        if said.strip() == line:
            return
    raise AssertionError(f"the command ended ({process.wait()}) and never said {line!r}")


def fill_disk(monkeypatch, name):
    """Let the disk be full for files of this name."""
    put = writing._put

    def refuse(place, called, data):
        if called == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(place, called, data)

    monkeypatch.setattr(writing, "_put", refuse)


def contents(folder: Path):
    """Return the bytes of every file in a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
