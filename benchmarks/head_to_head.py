"""Compare the toolkit with what somebody would use instead: one command, one table.

    make bench                  # the shared checkpoints and faces where they are, the demo model otherwise
    make bench BENCH=--quick    # the demo model in a few minutes
    make bench BENCH="--others FOLDER"   # the networks of a folder that others.py knows, too
    make bench BENCH="--others FOLDER --peers MinMax,performance"   # beside two kinds of peers alone
    python benchmarks/head_to_head.py prelu=FILE.ckpt relu6=FILE.pt --faces PEOPLE --pairs PAIRS.bin --work DIR

All contenders of a model are made from the same float.onnx, scored on the same images and timed in turns in one
process, in another order each round. What is made and embedded is kept in --work, so that a stopped run goes on: remove
it after a change of the toolkit or of a peer. Times are always taken anew. A contender that cannot be made or run is a
row that says why.
"""

import argparse
import functools
import importlib.metadata
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's idle threads must not spin beside another candidate

import numpy as np
from load_once import weigh
from others import facts_of, networks_in
from peers import Effort, Made, Materials, Peer, all_peers
from peers.ours import compressed
from plot import write_plot
from random_networks import random_network
from runtimes import PACKAGES, open_file
from scored_set import ScoredSet, draw_faces, embed, open_faces, score
from tables import tables
from timing import time_files

from qface_toolkit.environment import record_environment, usable_cores
from qface_toolkit.evaluation import BATCH
from qface_toolkit.evidence.sizes import measure_size
from qface_toolkit.models import FloatModel, load_model
from qface_toolkit.sources import find_set, load_crops

REFERENCE = "float.onnx"
SHARED = Path(__file__).resolve().parents[2] / "shared"
THOROUGH = Effort(300, ("int8-fast", "int8", "int8-best"), (10, 40), (0.1, 0.01), batch=32, pool=1024)
QUICK = Effort(32, ("int8-fast",), (), (), batch=16, pool=32)
VERSIONS = ("openvino", "nncf")


def main() -> None:
    """Make, score and time every contender of every model, and save what came out after each."""
    wanted = read_arguments()
    scored = open_faces(wanted.faces, wanted.pairs, wanted.folds) if wanted.faces else draw_faces(wanted.people)
    result = kept_result(wanted.save, scored) if wanted.keep else {"scored": scored.about, "models": {}, "rows": []}
    for name, path in wanted.models.items():
        model = load_model(path, overrides=facts_of(path)) if path else random_network(name)
        race = Race(name, model, scored, wanted)
        rows = race.rows()
        result["rows"] = [row for row in result["rows"] if row["model"] != name] + rows
        result["models"][name] = {
            "environment": record_environment(0, 1).model_dump(mode="json"),
            "peer_versions": {package: _version(package) for package in VERSIONS},
            "effort": asdict(wanted.effort),
            "rounds": wanted.rounds,
            "load_average": race.load_average,
            "traces": {peer: made.trace for peer, made in race.made.items() if made.trace},
        }
        wanted.save.write_text(json.dumps(result, indent=1) + "\n")
    write_plot(result, wanted.save.with_suffix(".png"))
    print(f"\n{tables(result)}\n\nwrote {wanted.save} and the plot beside it")


def kept_result(file: Path, scored: ScoredSet) -> dict[str, Any]:
    """Return an earlier result, whose other models are to be kept."""
    result: dict[str, Any] = json.loads(file.read_text())
    if result["scored"]["sha256"] != scored.about["sha256"]:
        raise SystemExit(f"{file} was scored on other images: leave --keep out")
    return result


class Race:
    """One model and all that is made of it."""

    def __init__(self, name: str, model: FloatModel, scored: ScoredSet, wanted: argparse.Namespace) -> None:
        self.name, self.model, self.scored, self.wanted = name, model, scored, wanted
        self.work = wanted.work / f"{name}-{model.source_sha256[:8]}"
        self.work.mkdir(parents=True, exist_ok=True)
        self.made: dict[str, Made] = {}
        self.load_average = 0.0

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the table: made, then scored, then timed together."""
        float_file = self.float_file()
        peers = [(f"{peer.name}, {peer.images}", peer) for peer in all_peers(self.wanted.effort) if self.races(peer)]
        rows: dict[str, dict[str, Any]] = {}
        for key, peer in peers:
            if peer.images == "faces" and not self.wanted.faces:
                continue
            rows[key] = {"model": self.name, "name": peer.name, "by": peer.by, "images": peer.images}
            try:
                self.made[key] = self.make(key, peer, float_file)
                rows[key] |= self.figures(key, peer)
            except Exception as error:  # noqa: BLE001 - a peer may fail in any way, and the row says how
                rows[key]["failed"] = _reason(error)
            print(self.name, key, rows[key], flush=True)
        self.time(rows)
        return list(rows.values())

    def races(self, peer: Peer) -> bool:
        """Tell whether a contender runs: float files and ours always, others where nobody chose among them."""
        chosen = self.wanted.peers
        return not chosen or peer.by in ("float", "qface_toolkit") or any(word in peer.name for word in chosen)

    def float_file(self) -> Path:
        """Return float.onnx, which every recipe writes."""
        out, _ = compressed(self.model, self.work, self.wanted.effort.recipes[0])
        return out / REFERENCE

    def make(self, key: str, peer: Peer, float_file: Path) -> Made:
        """Make a contender, or find it where an earlier run left it."""
        effort, started = self.wanted.effort, time.perf_counter()
        folder = self.work / re.sub(r"[^a-z0-9.]+", "-", f"{key} {effort.fingerprint()}".lower())
        note = folder / "made.json"
        if note.exists():
            kept = json.loads(note.read_text())
            return Made(**kept | {"files": tuple(Path(file) for file in kept["files"])})
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        materials = Materials(self.model, float_file, self.crops(peer), self.work, effort, self.wanted.threads)
        made = peer.make(materials, folder)
        seconds = time.perf_counter() - started if made.seconds is None else made.seconds
        kept = asdict(made) | {"seconds": round(seconds, 2), "files": [str(file) for file in made.files]}
        note.write_text(json.dumps(kept))
        return Made(**kept | {"files": made.files})

    def crops(self, peer: Peer) -> np.ndarray:
        """Return the images that a peer calibrates on."""
        count = self.wanted.effort.calibration
        if peer.images == "none" or peer.by == "qface_toolkit":
            return np.empty((0, 112, 112, 3), np.uint8)  # nothing to calibrate, or a recipe that says on what
        if peer.images == "faces":
            return self.scored.calibration(count)
        return load_crops(find_set("drawings").open(count=count))

    def figures(self, key: str, peer: Peer) -> dict[str, Any]:
        """Return what is known of a contender without timing it."""
        made = self.made[key]
        figures: dict[str, Any] = {
            "simulation": made.simulation,
            "runtime": made.runtime,
            "seconds_to_make": made.seconds,
            "real_faces": self.wanted.effort.calibration if peer.images == "faces" else 0,
        }
        if not made.simulation:
            figures["size_bytes"] = sum(measure_size(file).size_bytes for file in made.files)
            figures |= weigh(made.runtime, made.files[0], self.one_image(), self.wanted.processes)
        return figures | score(self.reference, self.embeddings(key), self.scored.faces, self.wanted.draws)

    @functools.cached_property
    def reference(self) -> np.ndarray:
        """The embeddings of float.onnx."""
        return self.embeddings(f"{REFERENCE}, none")

    def one_image(self) -> Path:
        """Return a file with one preprocessed drawing."""
        file = self.work / "one.npy"
        np.save(file, self.model.spec.preprocess(load_crops(find_set("drawings-heldout").open(count=1))))
        return file

    def embeddings(self, key: str) -> np.ndarray:
        """Return a contender's embeddings of all images, from an earlier run where they are there."""
        if key not in self.made:
            peer = next(peer for peer in all_peers(self.wanted.effort) if f"{peer.name}, {peer.images}" == key)
            self.made[key] = self.make(key, peer, self.float_file())
        made, threads = self.made[key], self.wanted.threads
        run = open_file(made.runtime, made.files[0], threads, BATCH)
        runtime = f"{made.runtime} {_version(PACKAGES[made.runtime])}"
        return embed(
            run,
            self.scored.images,
            self.model.spec,
            files=made.files,
            runtime=runtime,
            cache=self.work / "embeddings",
            threads=threads,
        )

    def time(self, rows: Mapping[str, dict[str, Any]]) -> None:
        """Time everything that has a file, in turns, and add the figures to its row."""
        files = {key: (made.runtime, made.files[0]) for key, made in self.made.items() if not made.simulation}
        files = {key: file for key, file in files.items() if "failed" not in rows[key]}
        crops = load_crops(find_set("drawings-heldout").open(count=8))
        times = time_files(files, self.model.spec.preprocess(crops), self.wanted.rounds, f"{REFERENCE}, none")
        for key, figures in times.items():
            rows[key] |= figures
        self.load_average = os.getloadavg()[0]


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:300]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_arguments() -> argparse.Namespace:
    """Return the options, with the models and faces to take where none are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="NAME[=FILE]", help="an architecture's name alone: random weights")
    parser.add_argument("--others", type=Path, help="a folder of other networks, see others.py")
    parser.add_argument("--faces", type=Path, help="a folder of aligned images for each person")
    parser.add_argument("--pairs", type=Path, help="a .bin file of pairs of the same images")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="the demo model on drawings, without training anything")
    parser.add_argument("--work", type=Path, default=Path("bench-out"))
    parser.add_argument("--save", type=Path, help="where the result goes, and the plot beside it")
    parser.add_argument("--keep", action="store_true", help="keep what the saved result has of other models")
    parser.add_argument("--draws", type=int, default=300, help="of people, for the interval of what TAR loses")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--processes", type=int, help="that load each file, for load time and memory")
    parser.add_argument("--recipes", default=",".join(THOROUGH.recipes))
    parser.add_argument("--peers", type=lambda given: given.split(","), help="words of the names of those that run")
    parser.add_argument("--steps", default=",".join(map(str, THOROUGH.steps)), help="of the distilled reference's grid")
    parser.add_argument("--rates", default=",".join(map(str, THOROUGH.rates)), help="of the distilled reference's grid")
    wanted = parser.parse_args()
    wanted.threads = usable_cores()
    wanted.people = 20 if wanted.quick else 200
    wanted.rounds = wanted.rounds or (20 if wanted.quick else 200)
    wanted.processes = wanted.processes or (1 if wanted.quick else 3)
    wanted.effort = QUICK if wanted.quick else _effort(wanted)
    wanted.save = wanted.save or wanted.work / "head_to_head.json"
    named = {name: path for name, _, path in (given.partition("=") for given in wanted.models)}
    if not named and not wanted.quick and SHARED.is_dir():
        named = {
            "prelu": SHARED / "models/mobilefacenet_prelu_112x96.ckpt",
            "relu6": SHARED / "models/mobilefacenet_relu6_112.pt",
        }
        wanted.faces, wanted.pairs = SHARED / "faces/people", SHARED / "faces/pairs.bin"
    named |= networks_in(wanted.others) if wanted.others else {}
    wanted.models = named or {"demo": "demo"}
    return wanted


def _effort(wanted: argparse.Namespace) -> Effort:
    steps = tuple(int(number) for number in wanted.steps.split(",") if number)
    rates = tuple(float(number) for number in wanted.rates.split(",") if number)
    recipes = tuple(wanted.recipes.split(","))
    return Effort(THOROUGH.calibration, recipes, steps, rates, THOROUGH.batch, THOROUGH.pool)


if __name__ == "__main__":
    main()
