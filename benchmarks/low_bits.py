"""Weigh, score and time what recipes below eight bits make, beside float.onnx, int8 and QuantFace's own widths.

    python benchmarks/low_bits.py prelu=FILE.ckpt relu6=FILE.pt --faces PEOPLE --pairs PAIRS.bin --work DIR
    python benchmarks/low_bits.py iresnet50 --recipes w6a8 --set steps=[calibrate] --set calibration.count=16 --work DIR

Each recipe's result stands in --work, NAME-RECIPE, and is made there if it is not; remove it after a change of the
toolkit. A name without a file stands for random weights, of which bytes and times alone say anything. Images are those
of the head-to-head: real faces where they are given, people drawn anew otherwise. Files are timed in turns in one
process, on one thread; each is loaded in processes of its own. A simulation has no speed, and its bytes are those of
its packed tensors. Times are always taken anew.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's idle threads must not spin beside another candidate

import numpy as np
from load_once import weigh
from random_networks import random_network
from runtimes import ONNXRUNTIME
from scored_set import ScoredSet, draw_faces, embed, open_faces, score
from timing import time_files

import qface_toolkit as qf
from qface_toolkit.backends import BACKENDS
from qface_toolkit.environment import record_environment, usable_cores
from qface_toolkit.evidence import collect
from qface_toolkit.models import FloatModel, load_model
from qface_toolkit.report import Report
from qface_toolkit.report.schema import ArtifactFigures
from qface_toolkit.sources import find_set, load_crops

REFERENCE, INT8 = "float.onnx", "int8.x86.onnx"
SHIPPED = ("packed.x86.onnx", INT8, "simulation.safetensors")
"""What stands for a recipe: the first of these that it writes."""
RECIPES = ("int8", "w6a8", "small", "w4a8", "w6a6", "quantface-w8a8", "quantface-w6a6")
FEW = 8
"""Images to compare a network of random weights on, for which agreement says nothing."""
SIZES = ("nominal_bytes", "payload_bytes", "size_bytes", "compressed_bytes", "weight_bits_mean")


class Field:
    """One model and the results that recipes make of it."""

    def __init__(self, name: str, path: str, wanted: argparse.Namespace) -> None:
        self.name, self.random, self.wanted = name, not path, wanted
        self.model: FloatModel = random_network(name) if self.random else load_model(path)
        self.folders = {recipe: wanted.work / f"{name}-{recipe}" for recipe in wanted.recipes}
        self.reports = {recipe: self.report(recipe, folder) for recipe, folder in self.folders.items()}

    def report(self, recipe: str, folder: Path) -> Report:
        """Return a result's report; the result is made now if it is not there."""
        if folder.exists():
            return qf.read_report(folder / "report.json")
        if self.random:
            collect.AGREEMENT_IMAGES = collect.SIMULATION_IMAGES = FEW
        return qf.compress(self.model, out=folder, recipe=recipe, sets=self.wanted.set, force=True)

    def rows(self, scored: ScoredSet | None) -> list[dict[str, Any]]:
        """Return a row for each recipe, float first, with everything that is known of it."""
        first = next(iter(self.reports))
        rows = [{"recipe": "float", **self.weight(first, REFERENCE)}]
        rows += [{"recipe": recipe, **self.weight(recipe, self.shipped(recipe))} for recipe in self.reports]
        if scored is not None:
            expected = self.embeddings(scored, first, REFERENCE)
            for row in rows[1:]:
                found = self.embeddings(scored, row["recipe"], row["file"])
                row |= score(expected, found, scored.faces, self.wanted.draws)
                print(self.name, row, flush=True)
        self.time(rows)
        return [{"model": self.name, **row} for row in rows]

    def shipped(self, recipe: str) -> str:
        """Return the file that stands for a recipe."""
        names = [one.name for one in self.reports[recipe].artifacts]
        return next(name for name in SHIPPED if name in names)

    def weight(self, recipe: str, artifact: str) -> dict[str, Any]:
        """Return what a file weighs, as its report says; ratios are to float.onnx."""
        figures = self.figures(recipe, artifact).model_dump()
        return {"file": artifact, "size_ratio": round(figures["size_ratio"], 4)} | {
            name: figures[name] for name in SIZES if figures[name] is not None
        }

    def figures(self, recipe: str, artifact: str) -> ArtifactFigures:
        """Return what a recipe's report says of a file."""
        return next(one for one in self.reports[recipe].artifacts if one.name == artifact)

    def embeddings(self, scored: ScoredSet, recipe: str, artifact: str) -> np.ndarray:
        """Return the embeddings of all images by a file, of an earlier run where it was the same file."""
        file, backend = self.folders[recipe] / artifact, self.figures(recipe, artifact).backend
        opener = BACKENDS.get("onnx-x86" if artifact == REFERENCE else backend)
        runtime = f"{backend} {record_environment(0, 1).versions}"
        return embed(
            opener.open(file, self.wanted.threads),
            scored.images,
            self.model.spec,
            files=(file,),
            runtime=runtime,
            cache=self.wanted.work / "embeddings",
            threads=self.wanted.threads,
        )

    def time(self, rows: list[dict[str, Any]]) -> None:
        """Add what loading and running takes to the rows of files, and to packed ones how they compare with int8."""
        first = next(iter(self.folders.values()))
        files = {"float": (ONNXRUNTIME, first / REFERENCE)}
        for recipe, folder in self.folders.items():
            files |= {
                f"{recipe} {name}": (ONNXRUNTIME, folder / name) for name in SHIPPED[:2] if (folder / name).exists()
            }
        inputs, one = self.inputs(), self.wanted.work / "one.npy"
        np.save(one, inputs[:1])
        times = time_files(files, inputs, self.wanted.rounds, "float")
        loads = {key: weigh(ONNXRUNTIME, file, one, self.wanted.processes) for key, (_, file) in files.items()}
        for row in rows:
            key = "float" if row["recipe"] == "float" else f"{row['recipe']} {row['file']}"
            if key not in files:
                continue
            row |= times[key] | loads[key]
            if (beside := f"{row['recipe']} {INT8}") in files and row["file"] != INT8:
                own, its = times[key]["p50_ms"]["value"], times[beside]["p50_ms"]["value"]
                row["int8_of_the_same_weights"] = {
                    "times_faster": round(its / own, 3),
                    "load_ms": loads[beside]["load_ms"],
                    "load_ratio": round(loads[key]["load_ms"] / loads[beside]["load_ms"], 2),
                    "peak_memory_bytes": loads[beside]["peak_memory_bytes"],
                }

    def inputs(self) -> np.ndarray:
        """Return eight preprocessed drawings."""
        return self.model.spec.preprocess(load_crops(find_set("drawings-heldout").open(count=8)))


def read_arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME[=FILE]", help="an architecture's name alone: random weights")
    parser.add_argument("--recipes", type=lambda text: tuple(text.split(",")), default=RECIPES)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every recipe made now")
    parser.add_argument("--faces", type=Path, help="a folder of aligned images for each person")
    parser.add_argument("--pairs", type=Path, help="a .bin file of pairs of the same images")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--drawn-people", type=int, default=0, help="score on so many drawn people instead")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--save", type=Path, help="where the result goes")
    parser.add_argument("--keep", action="store_true", help="keep what the saved result has of other models")
    parser.add_argument("--draws", type=int, default=300, help="of people, for the interval of what TAR loses")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--processes", type=int, default=3, help="that load each file")
    wanted = parser.parse_args()
    wanted.threads = usable_cores()
    wanted.save = wanted.save or wanted.work / "low_bits.json"
    wanted.work.mkdir(parents=True, exist_ok=True)
    return wanted


def main() -> None:
    """Make, score and time every recipe of every model, and save what came out after each."""
    wanted = read_arguments()
    scored = open_faces(wanted.faces, wanted.pairs, wanted.folds) if wanted.faces else None
    if scored is None and wanted.drawn_people:
        scored = draw_faces(wanted.drawn_people)
    result: dict[str, Any] = json.loads(wanted.save.read_text()) if wanted.keep else {"models": {}, "rows": []}
    for name, _, path in (given.partition("=") for given in wanted.models):
        rows = Field(name, path, wanted).rows(scored if path else None)
        result["rows"] = [row for row in result["rows"] if row["model"] != name] + rows
        result["models"][name] = {
            "environment": record_environment(0, 1).model_dump(mode="json"),
            "rounds": wanted.rounds,
            "load_average": os.getloadavg()[0],
            "scored": scored.about if scored else None,
        }
        wanted.save.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {wanted.save}")


if __name__ == "__main__":
    main()
