"""A small student of a real network, from some hundreds of crops, then in int8: how far it comes in an hour or two.

    python benchmarks/real_student.py --teacher FILE --crops FOLDER --pairs PAIRS.bin --work /tmp/student \\
      --save benchmarks/results/real_student.json

PocketNetS-128 learns from the teacher by the recipe `few-crops`, without a label; student and teacher become int8, and
the student a packed file, too. All are judged on the pairs of real faces, which nothing was chosen by, and the files
are timed in turns. Every step is the command that users have; what is in --work is not made again, and a training that
was stopped goes on.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from qface_toolkit.environment import record_environment, usable_cores

STUDENT, RECIPE = "pocketnet-s-128", "few-crops"
HELD_OUT = 149
ROUNDS = 300
FILE, PACKED = "int8.x86.onnx", "packed.x86.onnx"
SMALL = ("--recipe", "small", "--set", "budget.bytes=0.248", "--backend", "onnx-packed")


def qface(*words: object) -> str:
    """Run a command as a user would, and return what it says."""
    command = [sys.executable, "-m", "qface_toolkit", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def made(folder: Path, *words: object) -> Path:
    """Return the folder of a command, made if it is not there; one that was stopped goes on."""
    if not folder.exists():
        qface(*words, "--out", folder, *(["--resume"] if folder.with_name(f"{folder.name}.partial").exists() else []))
    return folder


def judged(model: Path, pairs: Path, folder: Path) -> Any:  # noqa: ANN401 - what evaluation.json holds
    """Return what an evaluation of a model on pairs says."""
    if not folder.exists():
        qface("evaluate", model, "--pairs", pairs, "--out", folder)
    said = json.loads((folder / "evaluation.json").read_text())
    kept = ("data", "flip", "draws", "figures", "reference_figures", "paired")
    return without({key: said[key] for key in kept}, "histogram")


def without(values: Any, key: str) -> Any:  # noqa: ANN401 - any JSON
    """Return plain values without what has this key, at any depth."""
    if isinstance(values, dict):
        return {name: without(value, key) for name, value in values.items() if name != key}
    return [without(one, key) for one in values] if isinstance(values, list) else values


def timed(**files: Path) -> dict[str, Any]:
    """Return what each file takes in turns, and how many times as fast as the first it is."""
    said = json.loads(qface("benchmark", *files.values(), "--rounds", ROUNDS, "--json"))
    kept = ("p50_ms", "p90_ms", "times_faster", "times_faster_interval")
    return {name: {key: one[key] for key in kept} for name, one in zip(files, said["models"], strict=True)}


def learnt(student: Path) -> dict[str, Any]:
    """Return of a training's report what is no place on this machine: figures and curves."""
    report = json.loads((student / "training.json").read_text())
    kept = ("student", "recipe", "images", "steps", "seconds", "peak_memory_bytes", "epochs", "points")
    return {key: report[key] for key in kept} | {"teacher": report["teachers"][0]["name"]}


def main() -> None:
    """Train, lower, judge and time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="a checkpoint")
    parser.add_argument("--crops", type=Path, required=True, help="a folder of aligned crops")
    parser.add_argument("--pairs", type=Path, required=True, help="pairs in insightface's .bin format, of other people")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--save", type=Path)
    wanted = parser.parse_args()
    work = wanted.work
    work.mkdir(parents=True, exist_ok=True)
    # Threads that spin while they wait are a third faster where nothing else runs.
    os.environ.setdefault("GOMP_SPINCOUNT", "300000")
    words = ("train", STUDENT, "--teacher", wanted.teacher, "--data", wanted.crops, "--recipe", RECIPE)
    sets = ("--set", "embedding_size=128", "--set", f"data.held_out={HELD_OUT}", "--threads", usable_cores())
    student = made(work / "student", *words, *sets)
    lowered = made(work / "int8", "compress", student)
    small = made(work / "small", "compress", student, *SMALL)
    beside = made(work / "teacher-int8", "compress", wanted.teacher, "--recipe", "int8-fast")
    values = {
        "environment": record_environment(0, usable_cores()).model_dump(mode="json"),
        "training": learnt(student),
        "bytes": {
            **{name: (lowered / name).stat().st_size for name in (FILE, "float.onnx")},
            PACKED: (small / PACKED).stat().st_size,
        },
        "student": judged(lowered, wanted.pairs, work / "judged"),
        "packed": judged(small, wanted.pairs, work / "small-judged"),
        "teacher": judged(wanted.teacher, wanted.pairs, work / "teacher-judged"),
        "times": timed(
            teacher=beside / FILE,
            student=lowered / FILE,
            student_packed=small / PACKED,
            student_float=lowered / "float.fast.onnx",
        ),
    }
    print(json.dumps({key: values[key] for key in ("bytes", "student", "packed", "times")}, indent=1))
    if wanted.save:
        wanted.save.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
