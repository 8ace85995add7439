"""Compress networks that `qface train` trained on drawings, and compare what is deployed with float on held-out ones.

    python benchmarks/score_shapes.py /tmp/shapes/iresnet18 /tmp/shapes/pocketnet --save benchmarks/results/shapes.json

Every figure is of int8.x86.onnx as ONNX Runtime runs it, on the 1,600 drawings of `drawings-heldout`: 200 people whose
attribute values neither training nor calibration used.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import qface_toolkit as qf
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.environment import record_environment, usable_cores
from qface_toolkit.models import FloatModel
from qface_toolkit.report import read_training
from qface_toolkit.report.training import TRAINING
from qface_toolkit.runtimes import FLOAT_ARTIFACT as FLOAT
from qface_toolkit.scoring.agreement import measure_agreement
from qface_toolkit.scoring.identities import verify_identities
from qface_toolkit.sources import Crop, find_set, load_crops

INT8 = "int8.x86.onnx"
BATCH = 32
Floats = npt.NDArray[np.float32]


def embed(file: Path, model: FloatModel, crops: Crop) -> Floats:
    """Return the embeddings that a file gives the crops, float32 [N, D]."""
    run = open_onnx(file, threads=1)
    parts = (crops[start : start + BATCH] for start in range(0, len(crops), BATCH))
    return np.concatenate([run(model.spec.preprocess(part)) for part in parts])


def score(model: FloatModel, folder: Path, recipe: str, crops: Crop, labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Compress with one recipe and return what came out."""
    report = qf.compress(model, out=folder, recipe=recipe, backends=["onnx-x86"], force=True)
    reference, embeddings = embed(folder / FLOAT, model, crops), embed(folder / INT8, model, crops)
    return {
        "agreement": asdict(measure_agreement(reference, embeddings)),
        "verification": {
            FLOAT: asdict(verify_identities(reference, labels)),
            INT8: asdict(verify_identities(embeddings, labels)),
        },
        "size_ratio": round((folder / INT8).stat().st_size / (folder / FLOAT).stat().st_size, 4),
        "seconds": round(sum(step.seconds for step in report.steps), 1),
        "recipe": report.recipe.values,
    }


def training(folder: Path) -> dict[str, Any]:
    """Return how a network was trained, as plain values."""
    report = read_training(folder / TRAINING)
    return {"command": report.command, "recipe": report.recipe, "images": report.images, "seconds": report.seconds}


def row(name: str, recipe: str, scores: dict[str, Any]) -> str:
    """Return one line for the reader."""
    cosines = " / ".join(f"{scores['agreement'][key]:.5f}" for key in ("cosine_mean", "cosine_p1", "cosine_min"))
    before, after = (scores["verification"][file]["pair_accuracy"] for file in (FLOAT, INT8))
    return f"{name:16} {recipe:10} cosine {cosines}  accuracy {before:.4f} -> {after:.4f}  {scores['seconds']:.0f} s"


def save(file: Path, results: dict[str, Any]) -> None:
    """Write the figures so far, with where they come from."""
    environment = record_environment(0, usable_cores()).model_dump(mode="json")
    file.write_text(json.dumps({"environment": environment, "networks": results}, indent=1) + "\n")


def main() -> None:
    """Score every network with every recipe, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="+", help="what `qface train` wrote")
    parser.add_argument("--recipe", action="append", help="int8-fast and int8 if not given; may be given again")
    parser.add_argument("--save", type=Path)
    wanted = parser.parse_args()
    named = find_set("drawings-heldout")
    crops = load_crops(named.open())
    labels = np.arange(len(crops)) // named.parameters["images_per_identity"]
    results: dict[str, Any] = {}
    for folder in wanted.folder:
        name, model = folder.name, qf.load_model(folder)
        results[name] = {"training": training(folder), "weights_sha256": model.source_sha256, "recipes": {}}
        for recipe in wanted.recipe or ("int8-fast", "int8"):
            scores = score(model, folder.with_name(f"{name}-{Path(recipe).stem}"), recipe, crops, labels)
            results[name]["recipes"][recipe] = scores
            print(row(name, recipe, scores), flush=True)
            if wanted.save:  # after each: the next may take minutes
                save(wanted.save, results)


if __name__ == "__main__":
    main()
