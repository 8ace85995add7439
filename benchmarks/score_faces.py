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
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from scored_set import ScoredSet, embed, measure_faces, open_faces

from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.environment import record_environment
from qface_toolkit.errors import MeasurementError
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.model import load_quantized
from qface_toolkit.result.manifest import read_manifest
from qface_toolkit.runtimes import FLOAT_ARTIFACT
from qface_toolkit.scoring.resampling import Figures, draw_people

FARS = (1e-3, 1e-4, 1e-5)
DEPLOYED = "int8.x86.onnx"


def score(out: Path, scored: ScoredSet, wanted: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of the wanted artifacts in `out`."""
    spec = spec_of_result(out)
    float_file = out / FLOAT_ARTIFACT
    reference = embed(
        open_onnx(float_file, wanted.threads),
        scored.images,
        spec,
        files=(float_file,),
        runtime=f"onnxruntime {onnxruntime.__version__}",
        cache=wanted.cache,
    )
    draws = draw_people(int(scored.faces.owners.max()) + 1, wanted.draws, wanted.seed)
    artifacts = {}
    for backend in BACKENDS.entries().values():
        path = out / backend.artifact
        if path.exists() and ("all" in wanted.artifact or backend.artifact in wanted.artifact):
            embeddings = embed(backend.open(path, wanted.threads), scored.images, spec)
            figures = measure_faces(reference, embeddings, scored.faces, draws, FARS)
            ratio = path.stat().st_size / (out / FLOAT_ARTIFACT).stat().st_size
            artifacts[backend.artifact] = {"figures": rounded(figures), "size_ratio": ratio}
    if not artifacts:
        raise MeasurementError("none of the wanted artifacts is here", where=str(out), fix="name others by --artifact")
    return {"source": read_manifest(out).model_extra, "artifacts": artifacts}


def spec_of_result(out: Path) -> ModelSpec:
    """Return the facts of a result's model; where only a simulation was made, its file says them."""
    if (out / "quantization.json").exists():
        return load_quantized(out / "quantization.json", out / "model.safetensors").spec
    simulation = BACKENDS.get("simulation")
    spec = simulation.read(out / simulation.artifact).spec
    assert spec is not None
    return spec


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
    titles = [
        "file",
        "cosine mean / p1 / lowest",
        "pair accuracy",
        "lost",
        "TAR 1e-3 / 1e-4 / 1e-5",
        "lost at 1e-4",
        "mixed TAR 1e-4",
        "lost",
    ]
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


def main() -> None:
    """Score the folders named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="*", type=Path)
    parser.add_argument("--group", action="append", default=[], type=group_of, metavar="NAME=DIR,DIR,DIR")
    parser.add_argument("--artifact", action="append", metavar="NAME", help=f"or all; default {DEPLOYED}")
    parser.add_argument("--faces", required=True, type=Path)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="a folder for the float models' embeddings")
    parser.add_argument("--save", type=Path)
    wanted = parser.parse_args()
    wanted.artifact = wanted.artifact or [DEPLOYED]
    named = {out.name: out for out in wanted.out}
    named |= {f"{name}: {out.name}": out for name, outs in wanted.group for out in outs}
    if len(named) < len(wanted.out) + sum(len(outs) for _, outs in wanted.group) or not named:
        parser.error("give at least one folder, and folders of different names")
    scored = open_faces(wanted.faces, wanted.pairs, wanted.folds)
    results, rows = {}, {}
    for name, out in named.items():
        results[name] = score(out, scored, wanted)
        for artifact, one in results[name]["artifacts"].items():
            rows[f"{name}, {artifact}"] = one["figures"]
            show(f"{name}, {artifact}", one["figures"])
    groups = {name: median_of([results[f"{name}: {out.name}"] for out in outs]) for name, outs in wanted.group}
    for name, artifacts in groups.items():
        for artifact, figures in artifacts.items():
            rows[f"{name}, {artifact}, median"] = figures
            show(f"{name}, {artifact}, median", figures)
    if wanted.save:
        environment = record_environment(wanted.seed, wanted.threads).model_dump(mode="json")
        about = scored.about | {"draws": wanted.draws}
        content = {"environment": environment, "scored": about, "results": results, "medians": groups}
        wanted.save.write_text(json.dumps(content, indent=1) + "\n")
    if wanted.pairs:
        print(table(rows))


if __name__ == "__main__":
    main()
