"""How a figure is put into words, so that the terminal and the Markdown never say different things."""

import unicodedata

from qface_toolkit.measure.fusion import KEPT
from qface_toolkit.report.schema import ArtifactFigures, IslandFigures, LatencyFigures, Report

RUNTIMES = {"onnxruntime": "ONNX Runtime", "torch": "torch", "openvino": "OpenVINO", "simulation": "simulation"}
NOTHING = "-"
LONGEST_TEXT = 300
LONGEST_KIND = 30
FIGURE_HEADINGS = (
    "file",
    "runtime",
    "MB",
    "size",
    "median ms",
    "p90 ms",
    "vs fast",
    "vs float",
    "cosine mean",
    "1st percentile",
    "lowest",
)


def clean(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a stranger's text on one line, without control characters (a name may hold escape codes), cut if long."""
    shown = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(sign)[0] == "C" else sign for sign in text)
    line = " ".join(shown.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def images_said(report: Report) -> list[str]:
    """Return what the cosines were taken on, if any were; each file that got fewer images is named."""
    found = [(one.name, one.agreement) for one in report.artifacts if one.agreement]
    if not found:
        return []
    most = max((one for _, one in found), key=lambda one: one.images)
    fewer = [f"{one.images} of {clean(name)}" for name, one in found if one.images < most.images]
    return ["; ".join([f"cosine: {most.images} images, {clean(most.what)}", *fewer])]


def runtime_name(runtime: str) -> str:
    """Return what people call a runtime."""
    return RUNTIMES.get(runtime, clean(runtime))


def megabytes(size_bytes: int) -> str:
    """Return a size in millions of bytes, without its unit."""
    return f"{size_bytes / 1e6:.2f}"


def milliseconds(value: float) -> str:
    """Return a time in three digits, without its unit."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def threads(count: int) -> str:
    """Return a number of threads."""
    return "1 thread" if count == 1 else f"{count} threads"


def times(value: float | None) -> str:
    """Return a ratio."""
    return NOTHING if value is None else f"{value:.2f}x"


def cosine(value: float | None) -> str:
    """Return a cosine in four digits; what is not quite one is not shown as one."""
    if value is None:
        return NOTHING
    return ">0.9999" if 0.99995 <= value < 1 else f"{value:.4f}"


def percent(value: float) -> str:
    """Return a rate in percent."""
    return f"{100 * value:.1f} %"


def speed_cells(artifact: ArtifactFigures) -> tuple[str, str, str, str]:
    """Return median, 90th percentile, and how many times as fast as float.fast.onnx and the float model a file is."""
    ratios = (times(artifact.times_faster_than_fast), times(artifact.times_faster))
    return (*latency_cells(artifact.latency), *ratios)


def speed_meaning(report: Report) -> tuple[str, ...]:
    """Return what the columns about size and speed mean, in lines."""
    fast = "vs fast: how many times as fast as float.fast.onnx, the float model written for speed"
    known = any(artifact.times_faster_than_fast for artifact in report.artifacts)
    others = "size: share of float.onnx; vs float: how many times as fast as the float model in the same runtime"
    return (*([fast] if known else []), others)


def latency_cells(latency: LatencyFigures | None) -> tuple[str, str]:
    """Return median and 90th percentile for a table."""
    return (milliseconds(latency.p50_ms), milliseconds(latency.p90_ms)) if latency else (NOTHING, NOTHING)


def runtimes(report: Report) -> tuple[str, ...]:
    """Return the runtimes that figures were taken in, in the order of the artifacts."""
    return tuple(dict.fromkeys((*(artifact.runtime for artifact in report.artifacts), *report.float_latency)))


def float_rows(report: Report, runtime: str) -> LatencyFigures | None:
    """Return the float model's latency in a runtime, unless a float artifact of that runtime shows it already."""
    shown = any(not one.quantized and one.latency for one in report.artifacts if one.runtime == runtime)
    return None if shown else report.float_latency.get(runtime)


def main_artifact(report: Report) -> ArtifactFigures | None:
    """Return the artifact that the verdict speaks of: the first quantized one."""
    return next((artifact for artifact in report.artifacts if artifact.quantized), None)


def layers_said(count: int, integer: int, name: str = "convolution", kept: int = 0) -> tuple[bool, str]:
    """Return whether layers are as they should be, and one sentence about how many of them run on integers."""
    if count == 0:
        return True, f"there are no {name}s"
    if integer == count:
        which = f"all {count} {name}s run" if count > 1 else f"the only {name} runs"
        return True, f"{which} on integers"
    if integer + kept == count:
        return True, f"{integer} of {count} {name}s run on integers, {kept} {'is' if kept == 1 else 'are'} {KEPT}"
    which = f"only {integer} of {count} {name}s run" if integer else f"none of {count} {name}s runs"
    return False, f"warning: {which} on integers"


def integer_said(artifact: ArtifactFigures) -> tuple[bool, str] | None:
    """Return the same of an artifact's convolutions, or None if they were not counted."""
    if artifact.convolutions is None or artifact.integer_convolutions is None:
        return None
    return layers_said(artifact.convolutions, artifact.integer_convolutions, kept=artifact.kept_convolutions)


def island_said(island: IslandFigures) -> str:
    """Return what an island is, what it costs and why it is there."""
    counted = ((clean(kind, LONGEST_KIND), count) for kind, count in island.operators.items())
    kinds = " + ".join(kind if count == 1 else f"{count} {kind}" for kind, count in counted)
    times_there = f"{island.count} x " if island.count > 1 else ""
    share = "" if island.share is None else f", {percent(island.share)} of the time"
    return f"{times_there}{kinds}{share}: {clean(island.reason)}"
