"""Compare every artifact of finished results with their float model, on a folder of aligned faces.

    python benchmarks/score_faces.py OUT... --faces FACES --save benchmarks/results/NAME.json

Real faces are for evaluation only: commit the recipe first, then run this. Prints a table and keeps the figures.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from qface_toolkit.artifacts import read_manifest
from qface_toolkit.backends import BACKENDS, Embed
from qface_toolkit.backends._float_onnx import ARTIFACT as FLOAT_ARTIFACT
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.environment import record_environment
from qface_toolkit.measure.agreement import measure_agreement
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.model import load_quantized

BATCH = 32
THREADS = 2


def read_faces(folder: Path, spec: ModelSpec) -> npt.NDArray[np.float32]:
    """Return every image below a folder, sorted by path, as the network's input."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    return spec.preprocess(np.stack([np.asarray(Image.open(path).convert("RGB")) for path in files]))


def score(out: Path, faces: Path) -> dict[str, Any]:
    """Return the agreement of each artifact in `out` with its float.onnx."""
    spec = load_quantized(out / "quantization.json", out / "model.safetensors").spec
    inputs = read_faces(faces, spec)
    reference = embed(open_onnx(out / FLOAT_ARTIFACT, THREADS), inputs)
    artifacts = {}
    for backend in BACKENDS.entries().values():
        if (out / backend.artifact).exists():
            embeddings = embed(backend.open(out / backend.artifact, THREADS), inputs)
            ratio = (out / backend.artifact).stat().st_size / (out / FLOAT_ARTIFACT).stat().st_size
            artifacts[backend.artifact] = asdict(measure_agreement(reference, embeddings)) | {"size_ratio": ratio}
    return {"source": read_manifest(out).model_extra, "artifacts": artifacts}


def embed(run: Embed, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the embeddings of all inputs."""
    return np.concatenate([run(inputs[i : i + BATCH]) for i in range(0, len(inputs), BATCH)])


def main() -> None:
    """Score the folders named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="+", type=Path)
    parser.add_argument("--faces", required=True, type=Path)
    parser.add_argument("--save", type=Path)
    wanted = parser.parse_args()
    results = {}
    for out in wanted.out:
        results[out.name] = score(out, wanted.faces)
        for name, figures in results[out.name]["artifacts"].items():
            cosines = f"{figures['cosine_mean']:.5f} {figures['cosine_p1']:.5f} {figures['cosine_min']:.5f}"
            print(f"{out.name:24} {name:16} {cosines}  {figures['size_ratio']:.3f} of float.onnx", flush=True)
    if wanted.save:
        environment = record_environment(0, THREADS).model_dump()
        wanted.save.write_text(json.dumps({"environment": environment, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
