"""Trainings as real processes: killed at any moment, spread by torchrun, started again by it."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from tiny_student import SMALL, STUDENT, people

from qface_toolkit.report.training import read_training

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("QFACE_KILLS", "3"))
"""More of them take minutes: QFACE_KILLS=20 pytest -m slow tests/training/test_processes.py"""
TRAIN = ("-m", "qface_toolkit", "train")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def words(data, out, *more):
    settings = [part for one in SMALL for part in ("--set", one)]
    return [
        STUDENT,
        "--teacher",
        "demo",
        "--data",
        str(data),
        "--out",
        str(out),
        "--threads",
        "1",
        "-q",
        *settings,
        *more,
    ]


def run(*command, **options):
    return subprocess.run(
        [sys.executable, *map(str, command)], env=ENVIRONMENT, capture_output=True, text=True, timeout=600, **options
    )


def spread(*command, processes=2, more=()):
    """Run the package under torchrun on this machine."""
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *more)
    return run(*launcher, *command)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return people(tmp_path_factory.mktemp("people"), identities=6, images=12)


@pytest.fixture(scope="module")
def alone(crops, tmp_path_factory):
    """Return the folder of a training by one process that nothing disturbed."""
    out = tmp_path_factory.mktemp("alone") / "out"
    done = run(*TRAIN, *words(crops, out))
    assert done.returncode == 0, done.stderr
    return out


def test_a_kill_at_any_moment_costs_nothing(alone, crops, tmp_path):
    """The weights are those of an undisturbed training, to the last bit, each time."""
    wanted = (alone / "student.safetensors").read_bytes()
    started = time.monotonic()
    run(*TRAIN, *words(crops, tmp_path / "timed"))
    whole, moments = time.monotonic() - started, random.Random(0)
    for kill in range(KILLS):
        out = tmp_path / f"killed{kill}"
        process = subprocess.Popen(
            [sys.executable, *TRAIN, *words(crops, out)],
            env=ENVIRONMENT,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        time.sleep(moments.uniform(0.2, 1.0) * whole)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if not out.exists():
            resumed = run(*TRAIN, *words(crops, out, "--resume"))
            assert resumed.returncode == 0, resumed.stderr
        assert (out / "student.safetensors").read_bytes() == wanted, f"kill {kill}"


GENTLE = (
    *("epochs=2", "batch_size=16", "loss.distance=cosine", "loss.kd=1", "loss.scale=8", "snapshots=false"),
    *("optimizer.learning_rate=0.001", "data.count=160", "data.images_per_identity=4", "data.held_out=0"),
)
"""From a trained network, at a small rate: a fresh one is so steep that a rounding error grows fourfold a step."""


def test_two_processes_learn_what_one_learns(tmp_path):
    settings = [f"--set={one}" for one in (*GENTLE, f"data.cache={tmp_path}")]
    gentle = ["demo", "--teacher", "demo", "--data", "drawings", "--threads", "1", "-q", *settings]
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(*TRAIN, *gentle, "--out", one).returncode == 0
    done = spread(*TRAIN, *gentle, "--out", two)
    assert done.returncode == 0, done.stderr
    curves = [[point.loss for point in read_training(out / "training.json").points] for out in (one, two)]
    assert len(curves[0]) == len(curves[1]) == 20
    apart = max(abs(here - there) for here, there in zip(*curves, strict=True))
    assert apart <= 1e-5, apart
    assert json.loads((two / "training.json").read_bytes())["ranks"] == 2


def test_a_process_that_dies_is_started_again_and_the_training_goes_on(crops, tmp_path):
    """torchrun's agent starts all processes anew, and they go on from the last state."""
    out, killer = tmp_path / "out", tmp_path / "killer.py"
    # The second process kills itself the first time it has learnt five steps.
    killer.write_text(
        "import os, signal, sys\n"
        "from qface_toolkit.training.course import Course\n"
        "from qface_toolkit.cli import main\n"
        "learn = Course._learn\n"
        "def learn_and_die(self, batch):\n"
        "    learn(self, batch)\n"
        "    first = os.environ['TORCHELASTIC_RESTART_COUNT'] == '0'\n"
        "    if first and self.ranks.rank == 1 and self.history.step == 5:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "Course._learn = learn_and_die\n"
        "sys.argv[0] = 'qface'\n"
        "main()\n"
    )
    undisturbed = spread(*TRAIN, *words(crops, tmp_path / "whole"))
    assert undisturbed.returncode == 0, undisturbed.stderr
    done = spread(killer, "train", *words(crops, out), more=("--max-restarts=1",))
    assert done.returncode == 0, done.stderr
    report = read_training(out / "training.json")
    assert report.resumed == 1
    assert (out / "student.safetensors").read_bytes() == (tmp_path / "whole" / "student.safetensors").read_bytes()


def test_processes_that_see_other_images_are_refused(crops, tmp_path):
    there = people(tmp_path / "people0", identities=6, images=12)
    people(tmp_path / "people1", identities=6, images=11)
    program = tmp_path / "differs.py"
    program.write_text(
        "import os, sys\n"
        f"os.chdir({str(tmp_path)!r} + '/people' + os.environ['RANK'])\n"
        "from qface_toolkit.cli import main\n"
        "sys.argv[0] = 'qface'\n"
        "main()\n"
    )
    assert there.is_dir()
    done = spread(program, "train", *words(".", tmp_path / "out"))
    assert done.returncode != 0
    assert "not all processes have the same images" in done.stderr
    assert not (tmp_path / "out").exists()


def test_several_processes_judge_as_one_does(crops, tmp_path):
    judge = (
        "-m",
        "qface_toolkit",
        "evaluate",
        "demo",
        "--faces",
        crops,
        "--draws",
        "20",
        "--threads",
        "1",
        "--json",
        "-q",
    )
    one, two = run(*judge), spread(*judge)
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    found, told = (json.loads(text.stdout[text.stdout.index("{") :]) for text in (one, two))
    assert told["figures"] == found["figures"] and told["data"] == found["data"]
