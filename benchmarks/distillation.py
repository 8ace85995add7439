"""What a teacher is worth: a student from labels alone, from a teacher too, from its snapshots, or an easier one first.

    python benchmarks/distillation.py --work /tmp/distillation --save benchmarks/results/distillation.json

A MobileFaceNet learns drawn people, and teaches one of half its width. Then PocketNetS-128 at half width learns them in
four ways, with as many images each, from three seeds: from labels; from labels and the trained MobileFaceNet; from its
snapshots, one an epoch; and from the narrow one for an epoch, then the wide one. All are judged on `drawings-heldout`:
people whose attribute values were never used.

Whatever is in --work is not made again, a training that was stopped goes on, and each seed is saved.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

import qface_toolkit as qf
from qface_toolkit.environment import record_environment, usable_cores
from qface_toolkit.report.training import read_training
from qface_toolkit.scoring.identities import verify_identities
from qface_toolkit.sources import Crop, find_set, load_crops

STUDENT, WIDTH = "pocketnet-s-128", 0.5
EPOCHS = 3
SEEDS = (0, 1, 2)
PEOPLE, IMAGES = 300, 8
DATA = (f"data.count={PEOPLE * IMAGES}", f"data.images_per_identity={IMAGES}", "data.seed=1", "data.held_out=20")
STEPS = ("batch_size=16", "optimizer.name=adamw", "optimizer.learning_rate=0.003", "optimizer.weight_decay=0.01")
STUDIES = (f"width={WIDTH}", f"epochs={EPOCHS}", "loss.margin_epochs=1", "loss.class_epochs=0.5", *STEPS)
TAUGHT = ("loss.kd=1000",)
"""Ten times the published weight: beside the looks of drawn people 100 is hardly heard in so few steps."""
SLOWER = 4
"""How many epochs of the teacher's stand in one snapshot."""
LONG = (f"epochs={SLOWER * EPOCHS}", "loss.margin_epochs=4", "loss.class_epochs=2", *STEPS)
TEACHER, BETWEEN = ("width=1", *LONG), ("width=0.5", *LONG)
STUDENTS_T = 4.303
"""The 97.5 % point of Student's distribution for the mean of three."""
PART = 100


def learnt(work: Path, name: str, student: str, seed: int, sets: tuple[str, ...], teachers: list[Path]) -> Path:
    """Return the folder of a training, made if it is not there."""
    out = work / name
    if not out.exists():
        qf.train(
            student,
            teachers=teachers,
            data="drawings",
            out=out,
            recipe="drawn-people",
            sets=(*DATA, f"data.cache={work / 'drawn'}", *sets),
            seed=seed,
            resume=out.with_name(f"{name}.partial").exists(),
        )
    return out


@torch.inference_mode()
def judged(folder: Path, crops: Crop, labels: Any) -> dict[str, float]:  # noqa: ANN401 - an array
    """Return how well a model tells held-out people apart."""
    model = qf.load_model(folder)
    parts = [model.spec.preprocess(crops[start : start + PART]) for start in range(0, len(crops), PART)]
    embeddings = np.concatenate([model.network(torch.from_numpy(part)).numpy() for part in parts])
    found = verify_identities(embeddings, labels, fars=(1e-3,))
    return {"pair_accuracy": found.pair_accuracy, "tar_1e-3": found.tar["1e-3"]}


def difference(there: list[float], here: list[float]) -> dict[str, float]:
    """Return the mean gain over seeds, and half the width of its 95 % interval."""
    gains = [one - other for one, other in zip(there, here, strict=True)]
    half = STUDENTS_T * stdev(gains) / len(gains) ** 0.5
    return {"gain": mean(gains), "half_width": half}


TAUGHT_WAYS = ("one teacher", "a teacher an epoch", "easier first")
HELD_AGAINST = (*((way, "labels") for way in TAUGHT_WAYS), *((way, "one teacher") for way in TAUGHT_WAYS[1:]))


def compared(figures: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return what each way gains over the one that it is held against, over seeds."""
    return {
        f"{better} over {than}": {
            key: difference([one[key] for one in figures[better]], [one[key] for one in figures[than]])
            for key in ("pair_accuracy", "tar_1e-3")
        }
        for better, than in HELD_AGAINST
    }


def main() -> None:
    """Train, judge, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for trainings and drawings")
    parser.add_argument("--save", type=Path)
    wanted = parser.parse_args()
    wanted.work.mkdir(parents=True, exist_ok=True)
    named = find_set("drawings-heldout")
    crops = load_crops(named.open())
    labels = np.arange(len(crops)) // named.parameters["images_per_identity"]
    teacher = learnt(wanted.work, "teacher", "mobilefacenet", 100, TEACHER, [])
    values: dict[str, Any] = {"environment": record_environment(0, usable_cores()).model_dump(mode="json")}
    values["teacher"] = judged(teacher, crops, labels)
    print("teacher", values["teacher"], flush=True)
    # As many snapshots as the student has epochs: each stands for a part of what the teacher learnt in.
    steps = [teacher / f"epoch-{SLOWER * (epoch + 1):03d}.safetensors" for epoch in range(EPOCHS)]
    last = teacher / "student.safetensors"
    between = learnt(wanted.work, "between", "mobilefacenet", 100, BETWEEN, [last])
    values["between"] = judged(between, crops, labels)
    print("between", values["between"], flush=True)
    easier = [between / "student.safetensors", *[last] * (EPOCHS - 1)]
    ways = {"labels": [], "one teacher": [last], "a teacher an epoch": steps, "easier first": easier}
    figures: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    curves: dict[str, Any] = {}
    for seed in SEEDS:
        for way, teachers in ways.items():
            name = f"{way.replace(' ', '-')}-{seed}"
            sets = (*STUDIES, *TAUGHT) if teachers else STUDIES
            folder = learnt(wanted.work, name, STUDENT, seed, sets, teachers)
            figures[way].append(judged(folder, crops, labels))
            report = read_training(folder / "training.json")
            curves[name] = {"seconds": report.seconds, "points": [[one.step, one.loss] for one in report.points]}
            print(name, figures[way][-1], f"{report.seconds:.0f} s", flush=True)
        values |= {"figures": figures, "compared": compared(figures) if seed else {}, "curves": curves}
        if wanted.save:
            wanted.save.write_text(json.dumps(values, indent=1) + "\n")
    print(json.dumps(values["compared"], indent=1))


if __name__ == "__main__":
    main()
