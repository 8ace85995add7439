"""Score what ONNX Runtime's quantizer and NNCF make of float models, on the same faces and measures as our own files.

    python benchmarks/accuracy_peers.py prelu=FILE.ckpt relu6=FILE.pt --faces PEOPLE --pairs PAIRS.bin \\
        --save benchmarks/results/accuracy_peers.json

Needs the packages openvino and nncf. Each is calibrated on 300 real faces, which are the 11th image of every person who
has one, then the 12th, and so on, so that none of them is compared for TAR; and on the 512 drawings of our default set.
quantize_static: QDQ, uint8 activations, int8 weights per channel, minimum and maximum. NNCF: its defaults, each preset.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from score_faces import Album, add_face_options, cached, embed, open_album, rounded, save, show, table

from qface_toolkit.backends import Embed
from qface_toolkit.backends._float_onnx import ARTIFACT, export_float
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.measure.accuracy import measure_accuracy
from qface_toolkit.measure.resampling import draw_people
from qface_toolkit.models import FloatModel, load_model
from qface_toolkit.sources._sets import find_set

REAL, DRAWN, SKIPPED = 300, 512, 10
PRESETS = {"performance": nncf.QuantizationPreset.PERFORMANCE, "mixed": nncf.QuantizationPreset.MIXED}
OPTIONS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


def calibration_rows(album: Album) -> np.ndarray:
    """Return the rows of the real faces to calibrate on: none is among the first ten images of a person."""
    owners = album.faces.owners
    turns = np.zeros(len(owners), dtype=np.intp)
    for owner in np.unique(owners):
        turns[owners == owner] = np.arange((owners == owner).sum())
    order = np.argsort(turns, kind="stable")
    return order[turns[order] >= SKIPPED][:REAL]


def calibration_crops(album: Album) -> dict[str, np.ndarray]:
    """Return the images of both calibrations, uint8 [N, 112, 112, 3]."""
    drawings = find_set("drawings").open(count=DRAWN)
    drawn = np.stack([drawings.crop(index) for index in range(DRAWN)])
    real = album.crops[calibration_rows(album)]
    return {f"{len(real)} faces": real, f"{DRAWN} drawings": drawn}


class Feeds(CalibrationDataReader):
    """Inputs, one at a time, as quantize_static wants them."""

    def __init__(self, inputs: np.ndarray) -> None:
        self.feeds: Iterator[dict[str, np.ndarray]] = ({"input": image[None]} for image in inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next image."""
        return next(self.feeds, None)


def by_onnxruntime(file: Path, inputs: np.ndarray, threads: int) -> Embed:
    """Return what runs ONNX Runtime's own int8 form of a float file."""
    written = file.with_name("peer.onnx")
    quantize_static(
        file, written, Feeds(inputs), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return open_onnx(written, threads)


def by_nncf(file: Path, inputs: np.ndarray, threads: int, preset: nncf.QuantizationPreset) -> Embed:
    """Return what runs NNCF's int8 form of a float file."""
    core, images = ov.Core(), nncf.Dataset([image[None] for image in inputs])
    model = nncf.quantize(core.read_model(file), images, preset=preset, subset_size=len(inputs))
    model.reshape([1, *inputs.shape[1:]])
    request = core.compile_model(model, "CPU", OPTIONS | {"INFERENCE_NUM_THREADS": threads}).create_infer_request()
    return lambda images: np.concatenate([np.array(request.infer({0: image[None]})[0]) for image in images])


PEERS: dict[str, Callable[[Path, np.ndarray, int], Embed]] = {
    "quantize_static": by_onnxruntime,
    **{f"NNCF {name}": partial(by_nncf, preset=preset) for name, preset in PRESETS.items()},
}


def score(name: str, model: FloatModel, album: Album, wanted: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of every peer's form of one model."""
    draws = draw_people(int(album.faces.owners.max()) + 1, wanted.draws, wanted.seed)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ARTIFACT
        file.write_bytes(export_float(model.network, model.spec, {}))
        reference = cached(file, album, model.spec, wanted.cache, wanted.threads)
        for images, crops in calibration_crops(album).items():
            for peer, make in PEERS.items():
                run = make(file, model.spec.preprocess(crops), wanted.threads)
                figures = measure_accuracy(reference, embed(run, album, model.spec), album.faces, draws)
                results[f"{peer}, {images}"] = rounded(figures)
                show(f"{name}, {peer}, {images}", results[f"{peer}, {images}"])
    return results


def main() -> None:
    """Score the peers' forms of every model and print and save what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=FILE")
    add_face_options(parser)
    wanted = parser.parse_args()
    album = open_album(wanted.faces, wanted.pairs, wanted.folds, wanted.limit)
    results = {}
    for given in wanted.models:
        name, _, path = given.partition("=")
        results[name] = score(name, load_model(path), album, wanted)
    versions = {"openvino": ov.__version__, "nncf": nncf.__version__}
    save(wanted, album, {"peer_versions": versions, "models": results})
    print(table({f"{name}, {peer}": one for name, peers in results.items() for peer, one in peers.items()}))


if __name__ == "__main__":
    main()
