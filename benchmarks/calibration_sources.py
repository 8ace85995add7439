"""What each source of calibration images is worth: the same recipe with each set, compared with float on other images.

    python benchmarks/calibration_sources.py CHECKPOINT... --work /tmp/sources --save benchmarks/results/sources.json
    python benchmarks/calibration_sources.py CHECKPOINT... --work /tmp/sources --faces PEOPLE --save ...

Cosines are of int8.x86.onnx to float.onnx, as ONNX Runtime runs them: always on the drawings of `drawings-heldout`, and
on every image of PEOPLE, a folder of aligned faces for each person, where it is given. No step sees either. Real faces
are for evaluation only: commit sets and recipe first. A result that stands in the work folder is scored as it is.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scored_set import embed

import qface_toolkit as qf
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.environment import record_environment, usable_cores
from qface_toolkit.evaluation import PeopleSet, read_people, synthetic_people
from qface_toolkit.quantize.model import load_quantized
from qface_toolkit.result.manifest import read_manifest
from qface_toolkit.runtimes import FLOAT_ARTIFACT
from qface_toolkit.scoring.agreement import measure_agreement

SETS = ("noise", "drawings", "matched", "drawings-and-matched")
HELD_OUT = "drawings-heldout"
DEPLOYED = "int8.x86.onnx"
DRAW = "draw calibration images"


def compress(checkpoint: Path, name: str, wanted: argparse.Namespace) -> Path:
    """Compress a checkpoint with one set, unless that was done, and return the result's folder."""
    out: Path = wanted.work / f"{checkpoint.stem}-{name}"
    if not out.exists():
        sets = [f"calibration.set={name}", f"calibration.count={wanted.count}"]
        qf.compress(checkpoint, out=out, recipe=wanted.recipe, sets=sets, backends=["onnx-x86"], seed=wanted.seed)
    return out


def score(out: Path, albums: Mapping[str, PeopleSet]) -> dict[str, Any]:
    """Return how close a result is to its float model on each album, and what it was made with."""
    spec = load_quantized(out / "quantization.json", out / "model.safetensors").spec
    runs = [open_onnx(out / file, threads=1) for file in (FLOAT_ARTIFACT, DEPLOYED)]
    agreements = {}
    for name, album in albums.items():
        reference, embeddings = (embed(run, album.images, spec) for run in runs)
        agreements[name] = asdict(measure_agreement(reference, embeddings))
    report = qf.read_report(out / "report.json")
    seconds = {step.name: round(step.seconds, 1) for step in report.steps}
    return {"agreement": agreements, "seconds": seconds, **(read_manifest(out).model_extra or {})}


def row(checkpoint: str, name: str, scores: Mapping[str, Any]) -> str:
    """Return one line of the table in Markdown."""
    cosines = [
        " / ".join(f"{one[f'cosine_{kind}']:.4f}" for kind in ("mean", "p1", "min"))
        for one in scores["agreement"].values()
    ]
    return f"| {' | '.join([checkpoint, name, *cosines, str(round(scores['seconds'][DRAW]))])} |"


def main() -> None:
    """Compress every checkpoint with every set, score the results and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="+", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="the folder for the results")
    parser.add_argument("--recipe", default="int8-fast")
    parser.add_argument("--set", dest="sets", action="append", metavar="NAME", help="all four if not given")
    parser.add_argument("--count", type=int, default=256, help="of calibration images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faces", type=Path)
    parser.add_argument("--save", type=Path)
    wanted = parser.parse_args()
    wanted.work.mkdir(parents=True, exist_ok=True)
    albums = {HELD_OUT: synthetic_people()}
    if wanted.faces:
        albums["faces"] = read_people(wanted.faces)
    titles = ["model", "calibrated on", *(f"mean / p1 / lowest cosine, {name}" for name in albums), "images made in, s"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
    results: dict[str, Any] = {}
    for checkpoint in wanted.checkpoint:
        for name in wanted.sets or SETS:
            results[f"{checkpoint.stem}: {name}"] = scores = score(compress(checkpoint, name, wanted), albums)
            print(row(checkpoint.stem, name, scores), flush=True)
    if wanted.save:
        environment = record_environment(wanted.seed, usable_cores()).model_dump(mode="json")
        scored = {name: album.description for name, album in albums.items()}
        content = {"environment": environment, "scored": scored, "results": results}
        wanted.save.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
