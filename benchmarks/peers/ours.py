"""Our own recipes; every result serves all of its files, so that a recipe runs once."""

from functools import partial
from pathlib import Path

from runtimes import ONNXRUNTIME, OPENVINO, TORCH

import qface_toolkit as qf
from peers._base import Made, Materials, Peer
from qface_toolkit.models import FloatModel
from qface_toolkit.report import Report

BACKENDS = {
    "int8.x86.onnx": ("onnx-x86", ONNXRUNTIME),
    "int8.x86.ts": ("torch-x86", TORCH),
    "int8.openvino.onnx": ("openvino", OPENVINO),
}
MEASURING = "measure"


def compressed(model: FloatModel, work: Path, recipe: str) -> tuple[Path, Report]:
    """Return the folder of a recipe's result and its report, made now if it is not there."""
    out = work / f"compressed-{recipe}"
    if out.exists():
        return out, qf.read_report(out / "report.json")
    backends = [backend for backend, _ in BACKENDS.values()]
    # What a stopped run left of it is made again.
    return out, qf.compress(model, out=out, recipe=recipe, backends=backends, force=True)


def take(materials: Materials, folder: Path, recipe: str, artifact: str) -> Made:
    """Return one file of a recipe's result; measuring is no part of making."""
    out, report = compressed(materials.model, materials.work, recipe)
    seconds = sum(step.seconds for step in report.steps if step.name != MEASURING)
    return Made((out / artifact,), BACKENDS[artifact][1], seconds)


def peers(recipes: tuple[str, ...]) -> list[Peer]:
    """Return a row for each file of `int8`, and for ONNX Runtime's of the other recipes."""
    wanted = [(recipe, name) for recipe in recipes for name in BACKENDS if recipe == "int8" or name == "int8.x86.onnx"]
    return [
        Peer(f"{recipe}, {name}", "qface_toolkit", "drawings", partial(take, recipe=recipe, artifact=name))
        for recipe, name in wanted
    ]
