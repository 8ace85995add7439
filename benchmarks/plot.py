"""Accuracy against latency, one panel a model, with a name beside every point.

Of settings of one tool that differ little, one is drawn; the table has them all. Names stand in a column at the right,
in the order of their points' heights and apart from each other, so that none covers another; a thin line leads to each
point. What the picture was drawn from is hashed into its metadata.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

KEY = "head-to-head"
"""The metadata's name for the hash of the plotted figures and of this file."""
COLOURS = {
    "float": "#6b7280",
    "qface_toolkit": "#c2410c",
    "ONNX Runtime": "#1d4ed8",
    "NNCF": "#047857",
    "torch.ao": "#7e22ce",
}
NETWORKS = {
    "prelu": "MobileFaceNet with PReLU",
    "relu6": "MobileFaceNet with ReLU6",
    "demo": "the demo model",
    "paddle_mobilefacenet128": "MobileFaceNet that Paddle exported",
    "w600k_mbf_dequantised": "w600k_mbf, InsightFace's buffalo_s",
    "mx_mobileface_V3": "MobileFace V3, from MXNet",
    "mx_mobileface_V2": "MobileFace V2, from MXNet",
    "faceapi_dlib_resnet": "dlib's ResNet, from face-api.js",
    "edgeface_xxs": "EdgeFace XXS",
}
"""What to call the models that are there by default and those of others.py; others as the command line names them."""
MOST_PANELS = 2
"""The first models of a result are drawn; the tables have all."""
TABLE_ONLY = ("float, torch", "quantize_static MinMax", "quantize_static Entropy", "NNCF mixed")
REACH = 0.06
"""How far below the float model a point may lie and still be drawn."""
INK = "#1f2937"
Point = tuple[str, str, bool, float, float]
"""A label, the tool, whether it needed real faces, milliseconds, and TAR."""


def points(result: Mapping[str, Any]) -> dict[str, list[Point]]:
    """Return what is plotted, by model: everything of the first that has a time and an accuracy."""
    found: dict[str, list[Point]] = {}
    drawn = [*dict.fromkeys(row["model"] for row in result["rows"])][:MOST_PANELS]
    for row in (row for row in result["rows"] if row["model"] in drawn):
        if "failed" not in row and not row["simulation"] and row["name"] not in TABLE_ONLY:
            faces = row["images"] == "faces"
            label = f"{row['name']}{', real faces' if faces else ''}"
            point = (label, row["by"], faces, row["p50_ms"]["value"], row["tar"]["1e-4"])
            found.setdefault(row["model"], []).append(point)
    return found


def digest(result: Mapping[str, Any]) -> str:
    """Return the hash of what is plotted and how."""
    content = json.dumps(points(result), sort_keys=True).encode() + Path(__file__).read_bytes()
    return hashlib.sha256(content).hexdigest()


def read_digest(file: Path) -> str | None:
    """Return the hash that a plot was drawn from."""
    with Image.open(file) as picture:
        found = picture.info.get(KEY)
    return found if isinstance(found, str) else None


def write_plot(result: Mapping[str, Any], file: Path) -> None:
    """Draw the plot; its background is white whatever the page's is."""
    panels = points(result)
    figure = Figure(figsize=(10.5, 3.9 * len(panels)), layout="constrained", facecolor="white")
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for one, (model, its_points) in zip(axes, panels.items(), strict=True):
        _panel(one, model, its_points)
    figure.savefig(file, dpi=110, metadata={KEY: digest(result), "Software": None})


def _panel(axes: Axes, model: str, its_points: Sequence[Point]) -> None:
    best = max(tar for *_, tar in its_points)
    shown = sorted((point for point in its_points if point[4] > best - REACH), key=lambda point: (point[4], -point[3]))
    left_out = [f"{label} ({tar * 100:.1f} %)" for label, *_, tar in its_points if tar <= best - REACH]
    for _, by, faces, ms, tar in shown:
        axes.plot(ms, tar * 100, "o", markersize=7, color=COLOURS[by], markerfacecolor="none" if faces else COLOURS[by])
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds an image, one thread", color=INK)
    axes.set_ylabel("TAR at FAR 1e-4, %", color=INK)
    title = f"{NETWORKS.get(model, model)}: filled circles need no real face"
    axes.set_title(f"{title}\nnot shown: {'; '.join(left_out)}" if left_out else title, fontsize=10, color=INK)
    ticks = _ticks([ms for *_, ms, _ in shown])
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(visible=True, color="#e5e7eb")
    axes.set_axisbelow(True)
    for height, (label, by, _, ms, tar) in zip(_apart([tar * 100 for *_, tar in shown], axes), shown, strict=True):
        axes.annotate(
            label,
            xy=(ms, tar * 100),
            xytext=(1.04, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=COLOURS[by],
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "#9ca3af", "linewidth": 0.5, "relpos": (0, 0.5)},
        )


def _apart(values: Sequence[float], axes: Axes) -> list[float]:
    """Return heights from 0 to 1 for the names of ascending values: near them, and far enough from each other."""
    bottom, top = axes.get_ylim()
    gap, heights, last = 0.97 / len(values), [], -1.0
    for value in values:
        last = max((value - bottom) / (top - bottom), last + min(gap, 0.06))
        heights.append(last)
    most = 0.99
    for place in reversed(range(len(heights))):
        heights[place] = min(heights[place], most)
        most = heights[place] - min(gap, 0.06)
    return heights


def _ticks(times: Sequence[float]) -> list[float]:
    steps = [base * 10**power for power in range(-2, 4) for base in (1, 1.5, 2, 3, 5, 7)]
    inside = [step for step in steps if min(times) * 0.7 < step < max(times) * 1.4]
    return inside or [min(times)]
