"""How public networks are fed whose files do not say it, by the names of their files."""

from pathlib import Path
from typing import Any

_USUAL = {"mean": 127.5, "std": 127.5, "color": "rgb"}
_IN_GRAPH = {"mean": 0, "std": 1, "color": "rgb"}
FACTS: dict[str, dict[str, Any]] = {
    "w600k_mbf_dequantised.onnx": _USUAL,
    "paddle_mobilefacenet128.onnx": _USUAL,
    "edgeface_xxs.pth": _USUAL,
    "mx_mobileface_V3.onnx": _IN_GRAPH,
    "mx_mobileface_V2.onnx": _IN_GRAPH,
    "faceapi_dlib_resnet.onnx": {"mean": [122.782, 117.001, 104.298], "std": 256, "color": "rgb", "crop": "arcface"},
}


def networks_in(folder: Path) -> dict[str, Path]:
    """Return the networks of a folder that are known here, by the names of their files."""
    return {Path(name).stem: folder / name for name in FACTS if (folder / name).exists()}


def facts_of(file: Path | str | None) -> dict[str, Any]:
    """Return how a network is fed; nothing for files that say it themselves, or whose architecture does."""
    return dict(FACTS.get(Path(file).name, {})) if file else {}
