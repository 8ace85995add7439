"""What is said of the files of a report."""

from qface_toolkit.report.figures import (
    LONGEST_KIND,
    NOTHING,
    clean,
    layers_said,
    milliseconds,
    percent,
    times,
)
from qface_toolkit.report.schema import ArtifactFigures, IslandFigures, LatencyFigures, Report

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


def images_said(report: Report) -> list[str]:
    """Return what the cosines were taken on, if any were; each file that got fewer images is named."""
    found = [(one.name, one.agreement) for one in report.artifacts if one.agreement]
    if not found:
        return []
    most = max((one for _, one in found), key=lambda one: one.images)
    fewer = [f"{one.images} of {clean(name)}" for name, one in found if one.images < most.images]
    return ["; ".join([f"cosine: {most.images} images, {clean(most.what)}", *fewer])]


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
