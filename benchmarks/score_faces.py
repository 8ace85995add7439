"""Compare finished results with their float model on aligned faces of real people.

    python benchmarks/score_faces.py OUT... --faces PEOPLE --pairs PAIRS.bin --save benchmarks/results/NAME.json
    python benchmarks/score_faces.py --group prelu=OUT0,OUT1,OUT2 --faces PEOPLE --pairs PAIRS.bin --cache DIR

PEOPLE holds a folder of images for each person. Cosines are over all images; TAR over every pair of at most ten images
a person, the first by file name; pair accuracy over the pairs of the .bin file, whose images must be in PEOPLE too.
Mixed: float in the gallery, int8 as probes, over every ordered pair of two images. Thresholds are each comparison's
own. Intervals: people drawn anew, with thresholds found anew. Real faces are for evaluation only: commit the recipe
first, then run this. A group is several results of one model, and gets the median of each figure.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

from qface_toolkit.artifacts import read_manifest
from qface_toolkit.backends import BACKENDS, Embed
from qface_toolkit.backends._float_onnx import ARTIFACT as FLOAT_ARTIFACT
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.environment import record_environment
from qface_toolkit.errors import MeasurementError
from qface_toolkit.measure.accuracy import FaceSet, Figures, first_of_each, measure_accuracy
from qface_toolkit.measure.pairs_file import read_pairs_file
from qface_toolkit.measure.resampling import draw_people
from qface_toolkit.measure.verification import Pairs
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.model import load_quantized

BATCH = 16
DEPLOYED = "int8.x86.onnx"
Embeddings = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Album:
    """Images of people, uint8 [N, 112, 112, 3], who is on each, and the SHA-256 of their names and pixels."""

    crops: npt.NDArray[np.uint8]
    files: tuple[Path, ...]
    faces: FaceSet
    sha256: str


def open_album(folder: Path, pairs: Path | None, folds: int, limit: int | None = None) -> Album:
    """Read the images of a folder of people, sorted by path, or the first `limit`, and the pairs they are in."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".png"))[:limit]
    crops = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in files])
    _, owners = np.unique([path.parent.name for path in files], return_inverse=True)
    digest = hashlib.sha256("\n".join(str(path.relative_to(folder)) for path in files).encode())
    digest.update(crops.tobytes())
    shown = None if pairs is None else find_pairs(files, pairs, folds, partial_set=limit is not None)
    return Album(crops, tuple(files), FaceSet(owners, first_of_each(owners), shown), digest.hexdigest())


def find_pairs(files: Sequence[Path], pairs: Path, folds: int, *, partial_set: bool) -> Pairs:
    """Return the pairs of a .bin file as rows of the files that hold the very same images; see `--limit`."""
    rows = {hashlib.sha256(path.read_bytes()).digest(): row for row, path in enumerate(files)}
    found = read_pairs_file(pairs)
    encoded = [image if isinstance(image, bytes) else b"" for image in found.images]
    places = np.array([rows.get(hashlib.sha256(image).digest(), -1) for image in encoded])
    first, second = places[found.first], places[found.second]
    known = (first >= 0) & (second >= 0)
    if not known.all() and not partial_set:
        what = f"{(~known).sum()} of {len(known)} pairs show an image that is not in the folder"
        raise MeasurementError(what, where=str(pairs), fix="give the folder that the pairs were taken from")
    return Pairs(first[known], second[known], found.same[known], folds)


def embed(run: Embed, album: Album, spec: ModelSpec, batch: int = BATCH) -> Embeddings:
    """Return the embeddings of all images."""
    starts = range(0, len(album.crops), batch)
    return np.concatenate([run(spec.preprocess(album.crops[at : at + batch])) for at in starts])


def cached(path: Path, album: Album, spec: ModelSpec, cache: Path | None, threads: int) -> Embeddings:
    """Return a float model's embeddings, from the cache where they are there.

    They are those of this file, these images, this preprocessing and this release of the runtime.
    """
    if cache is None:
        return embed(open_onnx(path, threads), album, spec)
    key = [hashlib.sha256(path.read_bytes()).hexdigest(), album.sha256, repr(spec), onnxruntime.__version__]
    kept = cache / f"{hashlib.sha256(repr(key).encode()).hexdigest()}.npy"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with kept.with_suffix(".partial").open("wb") as stream:
            np.save(stream, embed(open_onnx(path, threads), album, spec))
        kept.with_suffix(".partial").rename(kept)
    embeddings: Embeddings = np.load(kept)
    return embeddings


def score(out: Path, album: Album, wanted: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of the wanted artifacts in `out`."""
    spec = load_quantized(out / "quantization.json", out / "model.safetensors").spec
    reference = cached(out / FLOAT_ARTIFACT, album, spec, wanted.cache, wanted.threads)
    draws = draw_people(int(album.faces.owners.max()) + 1, wanted.draws, wanted.seed)
    artifacts = {}
    for backend in BACKENDS.entries().values():
        path = out / backend.artifact
        if path.exists() and ("all" in wanted.artifact or backend.artifact in wanted.artifact):
            embeddings = embed(backend.open(path, wanted.threads), album, spec)
            figures = measure_accuracy(reference, embeddings, album.faces, draws)
            ratio = path.stat().st_size / (out / FLOAT_ARTIFACT).stat().st_size
            artifacts[backend.artifact] = {"figures": rounded(figures), "size_ratio": ratio}
    if not artifacts:
        raise MeasurementError("none of the wanted artifacts is here", where=str(out), fix="name others by --artifact")
    return {"source": read_manifest(out).model_extra, "artifacts": artifacts}


def rounded(figures: Figures) -> dict[str, dict[str, float]]:
    """Return figures as the result files have them."""
    return {name: {end: round(number, 6) for end, number in asdict(one).items()} for name, one in figures.items()}


def median_of(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the median of each figure, and of each end of its interval, over the artifacts of the same name."""
    medians = {}
    for artifact in results[0]["artifacts"]:
        each = [result["artifacts"][artifact]["figures"] for result in results]
        medians[artifact] = {
            name: {end: float(np.median([one[name][end] for one in each])) for end in ends}
            for name, ends in each[0].items()
        }
    return medians


def show(name: str, figures: Mapping[str, Mapping[str, float]]) -> None:
    """Print the figures of one artifact: cosines as they are, rates in percent, with their intervals."""
    print(name)
    for kind, one in figures.items():
        scale, digits = (1, 4) if kind.startswith("cosine") else (100, 2)
        value, low, high = (f"{one[end] * scale:.{digits}f}" for end in ("value", "low", "high"))
        print(f"  {kind:24} {value:>8}   {low} .. {high}", flush=True)


def table(rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Return figures as a table of Markdown, one row a name, each float model's before those of its own forms.

    Losses are in percentage points, with their intervals.
    """
    titles = ["file", "cosine mean / p1 / lowest", "pair accuracy", "lost", "TAR 1e-3 / 1e-4 / 1e-5", "lost at 1e-4",
              "mixed TAR 1e-4", "lost"]  # fmt: skip
    lines = [titles, ["---"] * len(titles)]
    for name, figures in rows.items():
        reference = ["their float model", "", *_rates(figures, "float_"), "", "", ""]
        if reference not in lines:
            lines.append(reference)
        cosines = " / ".join(f"{figures[f'cosine_{kind}']['value']:.4f}" for kind in ("mean", "p1", "min"))
        accuracy, _, tar = _rates(figures, "")
        lost = [_lost(figures[kind]) for kind in ("pair_accuracy_lost", "tar_lost@1e-4", "mixed_tar_lost@1e-4")]
        mixed = f"{figures['mixed_tar@1e-4']['value'] * 100:.2f}"
        lines.append([name, cosines, accuracy, lost[0], tar, lost[1], mixed, lost[2]])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rates(figures: Mapping[str, Mapping[str, float]], prefix: str) -> list[str]:
    tar = " / ".join(f"{figures[f'{prefix}tar@1e-{power}']['value'] * 100:.2f}" for power in (3, 4, 5))
    return [f"{figures[f'{prefix}pair_accuracy']['value'] * 100:.2f}", "", tar]


def _lost(one: Mapping[str, float]) -> str:
    value, low, high = (f"{one[end] * 100:.2f}" for end in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def group_of(text: str) -> tuple[str, list[Path]]:
    """Return the name and the folders of a group, NAME=DIR,DIR,DIR."""
    name, given, folders = text.partition("=")
    if not given or not name:
        raise argparse.ArgumentTypeError("a group is NAME=DIR,DIR,DIR")
    return name, [Path(folder) for folder in folders.split(",")]


def add_face_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which images are scored and how."""
    parser.add_argument("--faces", required=True, type=Path)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--limit", type=int, help="score this many images only, and the pairs among them")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="a folder for the float models' embeddings")
    parser.add_argument("--save", type=Path)


def save(wanted: argparse.Namespace, album: Album, content: Mapping[str, Any]) -> None:
    """Write a result file, if one is wanted, with what was scored and where."""
    if wanted.save:
        environment = record_environment(wanted.seed, wanted.threads).model_dump(mode="json")
        faces = album.faces
        scored = {
            "images": len(album.files), "people": int(faces.owners.max()) + 1, "compared": len(faces.compared),
            "pairs": 0 if faces.pairs is None else len(faces.pairs.same), "folds": wanted.folds,
            "draws": wanted.draws, "sha256": album.sha256,
        }  # fmt: skip
        wanted.save.write_text(json.dumps({"environment": environment, "scored": scored, **content}, indent=1) + "\n")


def main() -> None:
    """Score the folders named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="*", type=Path)
    parser.add_argument("--group", action="append", default=[], type=group_of, metavar="NAME=DIR,DIR,DIR")
    parser.add_argument("--artifact", action="append", metavar="NAME", help=f"or all; default {DEPLOYED}")
    add_face_options(parser)
    wanted = parser.parse_args()
    wanted.artifact = wanted.artifact or [DEPLOYED]
    named = {out.name: out for out in wanted.out}
    named |= {f"{name}: {out.name}": out for name, outs in wanted.group for out in outs}
    if len(named) < len(wanted.out) + sum(len(outs) for _, outs in wanted.group) or not named:
        parser.error("give at least one folder, and folders of different names")
    album = open_album(wanted.faces, wanted.pairs, wanted.folds, wanted.limit)
    results, rows = {}, {}
    for name, out in named.items():
        results[name] = score(out, album, wanted)
        for artifact, one in results[name]["artifacts"].items():
            rows[f"{name}, {artifact}"] = one["figures"]
            show(f"{name}, {artifact}", one["figures"])
    groups = {name: median_of([results[f"{name}: {out.name}"] for out in outs]) for name, outs in wanted.group}
    for name, artifacts in groups.items():
        for artifact, figures in artifacts.items():
            rows[f"{name}, {artifact}, median"] = figures
            show(f"{name}, {artifact}, median", figures)
    save(wanted, album, {"results": results, "medians": groups})
    if wanted.pairs:
        print(table(rows))


if __name__ == "__main__":
    main()
