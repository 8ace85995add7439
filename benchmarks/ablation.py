"""What every step of the recipes adds to the deployed file's agreement with float, and what it costs in seconds.

    python benchmarks/ablation.py prelu=CHECKPOINT relu6=CHECKPOINT --save benchmarks/results/ablation.json
    python benchmarks/ablation.py ... --faces PEOPLE

Each row is int8.x86.onnx after one more step, run by ONNX Runtime on images that no step saw: drawings of attribute
values that calibration never uses, other drawings that were fitted to the model's BatchNorm statistics, as real faces
are, and every image of PEOPLE where it is given. Real faces are for evaluation only: commit the recipes first. Figures
are medians over seeds; a seed fixes the drawings and everything random in the steps.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scored_set import GivenCrops, embed

from qface_toolkit.backends import BACKENDS, Embed
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.environment import record_environment, set_determinism, usable_cores
from qface_toolkit.evaluation import FaceImages, read_people
from qface_toolkit.methods import METHODS, Context, Reference
from qface_toolkit.models import FloatModel, load_model
from qface_toolkit.quantize.model import QuantizedModel, new_model
from qface_toolkit.scoring.agreement import measure_agreement
from qface_toolkit.sources import find_set, load_crops

BACKEND = BACKENDS.get("onnx-x86")
HELD_OUT_IMAGES = 800
FITTED_IMAGES, FITTED_SEED = 96, 5

Row = tuple[str, str | None, tuple[tuple[str, dict[str, Any]], ...]]
MINMAX = ("calibrate", {"observer": "minmax"})
ROWS: tuple[Row, ...] = (
    ("minimum and maximum", None, (MINMAX,)),
    ("least squares ranges", None, (("calibrate", {}),)),
    ("equalization, least squares ranges", None, (("equalize", {}), ("calibrate", {}))),
    ("equalization", None, (("equalize", {}), MINMAX)),
    ("equalization, bias correction", "equalization", (("correct_bias", {}),)),
    ("equalization, reconstruction", "equalization", (("reconstruct", {}),)),
    ("equalization, reconstruction with ranges", "equalization", (("reconstruct", {"ranges_rate": 0.01}),)),
    ("equalization, reconstruction, distillation", "equalization, reconstruction", (("distill", {}),)),
)
"""What a row is called, the row whose model it starts from (None: the float model), and its steps."""


def held_out() -> FaceImages:
    """Return drawings that no step sees."""
    drawn = find_set("drawings-heldout")
    return GivenCrops(load_crops(drawn.open(), range(0, drawn.count, drawn.count // HELD_OUT_IMAGES)), "drawings")


def fitted(source: FloatModel) -> FaceImages:
    """Return drawings with activations like those of the images that a model was trained on."""
    return GivenCrops(load_crops(find_set("matched").open(FITTED_IMAGES, FITTED_SEED, source)), "fitted")


def rows(source: FloatModel, seed: int, count: int, only: list[str]) -> Iterator[tuple[str, QuantizedModel, float]]:
    """Yield each row's name, its model and the seconds of its own steps."""
    inputs = source.spec.preprocess(load_crops(find_set("drawings").open(count, seed)))
    start = new_model(canonicalise(source.network, source.spec.input_size), source.spec)
    context = Context(inputs, BACKEND.target, seed, 32, lambda done, total: None, (Reference(start.embed),))
    models: dict[str | None, QuantizedModel] = {None: start}
    for name, before, steps in ROWS:
        if only and name not in only:
            continue
        began, model = time.perf_counter(), models[before]
        for method, options in steps:
            entry = METHODS.get(method)
            model = entry.run(model, entry.options(**options), context)
        models[name] = model
        yield name, model, time.perf_counter() - began


def deployed(model: QuantizedModel, images: FaceImages) -> npt.NDArray[np.float32]:
    """Return what the file made of a model gives for images."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / BACKEND.artifact
        path.write_bytes(BACKEND.lower(model, {}))
        return embed(BACKEND.open(path, threads=1), images, model.spec)


def ablate(source: FloatModel, albums: dict[str, FaceImages], wanted: argparse.Namespace) -> dict[str, Any]:
    """Return each row's agreement on each album, for every seed and as median, and its seconds."""
    found: dict[str, list[dict[str, Any]]] = {}
    reference = {name: embed(_float(source), album, source.spec) for name, album in albums.items()}
    for seed in wanted.seeds:
        set_determinism(seed, wanted.threads)
        for row, model, seconds in rows(source, seed, wanted.count, wanted.row):
            figures = {
                name: asdict(measure_agreement(reference[name], deployed(model, album)))
                for name, album in albums.items()
            }
            found.setdefault(row, []).append({"seed": seed, "seconds": round(seconds, 1), **figures})
            means = " ".join(f"{name} {figures[name]['cosine_mean']:.5f}" for name in albums)
            print(f"  seed {seed}: {row}: {means}, {seconds:.0f} s", flush=True)
    return {row: {"seeds": seeds, "median": _median(seeds, list(albums))} for row, seeds in found.items()}


def _float(source: FloatModel) -> Embed:
    return new_model(canonicalise(source.network, source.spec.input_size), source.spec).embed


def _median(seeds: list[dict[str, Any]], albums: list[str]) -> dict[str, Any]:
    figures = {
        album: {kind: statistics.median(one[album][kind] for one in seeds) for kind in ("cosine_mean", "cosine_p1")}
        for album in albums
    }
    return {"seconds": statistics.median(one["seconds"] for one in seeds), **figures}


def table(results: dict[str, Any], albums: list[str]) -> str:
    """Return the medians as a table in Markdown."""
    titles = ["network", "step", *(f"mean / p1 cosine, {album}" for album in albums), "seconds"]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for network, found in results.items():
        for row, both in found.items():
            median = both["median"]
            cosines = [f"{median[album]['cosine_mean']:.4f} / {median[album]['cosine_p1']:.4f}" for album in albums]
            lines.append(f"| {' | '.join([network, row, *cosines, format(median['seconds'], '.0f')])} |")
    return "\n".join(lines)


def main() -> None:
    """Take the steps one after the other with every network and seed, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="+", metavar="NAME=CHECKPOINT")
    parser.add_argument("--count", type=int, default=512, help="of calibration images")
    parser.add_argument("--seeds", type=lambda text: [int(one) for one in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--row", action="append", default=[], help="this row alone, and those it starts from")
    parser.add_argument("--faces", type=Path)
    parser.add_argument("--save", type=Path)
    wanted = parser.parse_args()
    albums = {"drawings": held_out()}
    if wanted.faces:
        albums["faces"] = read_people(wanted.faces).images
    results = {}
    for text in wanted.network:
        name, _, checkpoint = text.partition("=")
        source = load_model(checkpoint)
        print(name, flush=True)
        results[name] = ablate(source, albums | {"fitted": fitted(source)}, wanted)
    print(table(results, [*albums, "fitted"]))
    if wanted.save:
        environment = record_environment(0, wanted.threads).model_dump(mode="json")
        content = {"environment": environment, "count": wanted.count, "networks": results}
        wanted.save.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
