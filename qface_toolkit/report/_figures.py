"""How a figure is put into words, so that the terminal and the Markdown never say different things."""

import unicodedata

from qface_toolkit.measure.fusion import KEPT
from qface_toolkit.report.schema import ArtifactFigures, IslandFigures, LatencyFigures, Report

RUNTIMES = {"onnxruntime": "ONNX Runtime", "torch": "torch", "openvino": "OpenVINO", "simulation": "simulation"}
NOTHING = "-"
LONGEST_TEXT = 300
LONGEST_KIND = 30


def clean(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a stranger's text on one line, without control characters (a name may hold escape codes), cut if long."""
    shown = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(sign)[0] == "C" else sign for sign in text)
    line = " ".join(shown.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


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
    """Return median, 90th percentile, and how many times as fast as float.onnx and float.fast.onnx a file is."""
    ratios = (times(artifact.times_faster), times(artifact.times_faster_than_fast))
    return (*latency_cells(artifact.latency), *ratios)


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


def verdict(report: Report) -> str:
    """Return one sentence with the figures that matter most."""
    artifact = main_artifact(report)
    if artifact is None:
        return "Nothing was quantized."
    said = (_size_said(artifact), _speed_said(artifact), _agreement_said(artifact), _accuracy_said(report, artifact))
    parts = [part for part in said if part]
    return f"{clean(artifact.name)} {', '.join(parts[:-1])}{' and ' if len(parts) > 1 else ''}{parts[-1]}."


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


def _size_said(artifact: ArtifactFigures) -> str:
    float_bytes = round(artifact.size_bytes / artifact.size_ratio)
    if artifact.runtime == "simulation":
        needed = artifact.payload_bytes or artifact.size_bytes
        beside = f"{megabytes(float_bytes)} MB of float"
        return f"is a simulation, whose codes would take {megabytes(needed)} MB instead of {beside}"
    share = percent(artifact.size_ratio)
    return f"takes {megabytes(artifact.size_bytes)} MB instead of {megabytes(float_bytes)} MB ({share})"


def _speed_said(artifact: ArtifactFigures) -> str:
    if artifact.times_faster is None or artifact.latency is None:
        return f"was not timed ({clean(artifact.latency_missing or 'no float model to compare with')})"
    where = f"float in {runtime_name(artifact.runtime)} on {threads(artifact.latency.threads)}"
    fast = artifact.times_faster_than_fast
    fastest = "" if fast is None else f" ({fast:.2f} times as fast as float.fast.onnx)"
    if artifact.times_faster >= 1:
        return f"runs {artifact.times_faster:.2f} times as fast as {where}{fastest}"
    return f"takes {1 / artifact.times_faster:.2f} times as long as {where}{fastest}"


def _agreement_said(artifact: ArtifactFigures) -> str:
    found = artifact.agreement
    if found is None:
        return ""
    lowest = f"lowest of {found.images}: {cosine(found.cosine_min)}"
    return f"agrees with the float model to a mean cosine of {cosine(found.cosine_mean)} ({lowest})"


def _accuracy_said(report: Report, artifact: ArtifactFigures) -> str:
    if report.verification is None or artifact.name not in report.verification.artifacts:
        return ""
    before, after = report.verification.float_model, report.verification.artifacts[artifact.name]
    return f"verifies {percent(after.pair_accuracy)} of pairs correctly (float: {percent(before.pair_accuracy)})"
