"""What is said of the files of a report: their figures side by side, their sizes, and what of them runs on integers."""

from collections.abc import Iterator, Sequence

from qface_toolkit.report.figures import (
    LONGEST_KIND,
    NOTHING,
    clean,
    cosine,
    layers_said,
    megabytes,
    milliseconds,
    percent,
    runtime_name,
    threads,
    times,
)
from qface_toolkit.report.page import Notes, Section, Table
from qface_toolkit.report.schema import ArtifactFigures, IslandFigures, LatencyFigures, Report
from qface_toolkit.runtimes import FAST_ARTIFACT as FAST
from qface_toolkit.runtimes import FLOAT_ARTIFACT as FLOAT

FLOAT_ROW = "float model"
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
SIZE_HEADINGS = ("file", "bits", "nominal MB", "payload MB", "file MB", "zipped MB", "load ms", "load MB")
SHORT_MEANING = "nominal: parameters x bits / 8; payload: tensors only; %: of float.onnx's own"
_SIZES = ("nominal_bytes", "payload_bytes", "size_bytes", "compressed_bytes")
_SIZES_MEAN = (
    "nominal: parameters x bits / 8, as papers count; bits: of a parameter, on average",
    "payload: the tensors inside the file, scales included, without the graph",
    "file: on the disk; zipped: deflated, as an app's package holds it",
    f"in brackets: share of the same figure of {FLOAT}",
)
_LOADING_MEANS = (
    "load: one thread, a new process each time, the median; load MB: rise of its peak memory, the runtime's own part "
    "included"
)


def main_artifact(report: Report) -> ArtifactFigures | None:
    """Return the artifact that the verdict speaks of: the first quantized one."""
    return next((artifact for artifact in report.artifacts if artifact.quantized), None)


def artifact_of(report: Report, name: str) -> ArtifactFigures | None:
    """Return the artifact of a name."""
    return next((one for one in report.artifacts if one.name == name), None)


def runtimes(report: Report) -> tuple[str, ...]:
    """Return the runtimes that figures were taken in, in the order of the artifacts."""
    return tuple(dict.fromkeys((*(artifact.runtime for artifact in report.artifacts), *report.float_latency)))


def figures_section(report: Report) -> Section:
    """Return every file's bytes, milliseconds and cosines, and how they were taken."""
    rows = [row for runtime in runtimes(report) for row in figures_rows(report, runtime)]
    table = Table("Every file: bytes, milliseconds and cosines", FIGURE_HEADINGS, rows, texts=2)
    return Section("figures", "Float against compressed", blocks=(table, Notes(list(_conditions(report)))))


def figures_rows(report: Report, runtime: str) -> list[list[str]]:
    """Return the rows of one runtime (see FIGURE_HEADINGS), that of the float model first unless a file shows it."""
    found = [artifact for artifact in report.artifacts if artifact.runtime == runtime]
    shown = any(not one.quantized and one.latency for one in found)
    latency = None if shown else report.float_latency.get(runtime)
    own = [_float_row(runtime, latency)] if latency else []
    return [*own, *map(_figures_row, found)]


def _float_row(runtime: str, latency: LatencyFigures) -> list[str]:
    speed = (*_latency_cells(latency), NOTHING, times(1.0))
    return [FLOAT_ROW, runtime_name(runtime), NOTHING, NOTHING, *speed, *[NOTHING] * 3]


def _figures_row(artifact: ArtifactFigures) -> list[str]:
    found = artifact.agreement
    cosines = (found.cosine_mean, found.cosine_p1, found.cosine_min) if found else (None, None, None)
    sizes = (megabytes(artifact.size_bytes), percent(artifact.size_ratio))
    speed = (times(artifact.times_faster_than_fast), times(artifact.times_faster))
    names = (clean(artifact.name), runtime_name(artifact.runtime))
    return [*names, *sizes, *_latency_cells(artifact.latency), *speed, *map(cosine, cosines)]


def _latency_cells(latency: LatencyFigures | None) -> tuple[str, str]:
    return (milliseconds(latency.p50_ms), milliseconds(latency.p90_ms)) if latency else (NOTHING, NOTHING)


def _conditions(report: Report) -> Iterator[str]:
    """Yield what a reader must know to trust the table: threads, batch, rounds and images."""
    timed = [one.latency for one in report.artifacts if one.latency] or list(report.float_latency.values())
    for one in timed[:1]:
        yield f"latency: {threads(one.threads)}, batch {one.batch}, {len(one.samples_ms)} rounds in turns"
    yield from _images_said(report)
    if any(artifact.times_faster_than_fast for artifact in report.artifacts):
        yield f"vs fast: how many times as fast as {FAST}, the float model written for speed"
    yield f"size: share of {FLOAT}; vs float: how many times as fast as the float model in the same runtime"
    yield from not_timed(report)


def not_timed(report: Report) -> list[str]:
    """Return which files were not timed, and why."""
    missing = [(one.name, one.latency_missing) for one in report.artifacts if one.latency_missing]
    return [f"{clean(name)} was not timed: {clean(reason)}" for name, reason in missing]


def _images_said(report: Report) -> list[str]:
    """Return what the cosines were taken on, if any were; each file that got fewer images is named."""
    found = [(one.name, one.agreement) for one in report.artifacts if one.agreement]
    if not found:
        return []
    most = max((one for _, one in found), key=lambda one: one.images)
    fewer = [f"{one.images} of {clean(name)}" for name, one in found if one.images < most.images]
    return ["; ".join([f"cosine: {most.images} images, {clean(most.what)}", *fewer])]


def sizes_section(report: Report) -> Section:
    """Return what each file weighs, in the four ways that people mean by size, and what loading it takes."""
    rows = [[clean(one.name), *size_cells(one, report), *load_cells(one)] for one in report.artifacts]
    table = Table("Every file, as papers, its tensors, a disk and a package count", SIZE_HEADINGS, rows)
    return Section("sizes", "Sizes, and what loading takes", blocks=(table, Notes(list(_sizes_mean(report)))))


def has_sizes(report: Report) -> bool:
    """Tell whether more is known of sizes than bytes on the disk, which is all that older reports have."""
    return any(one.nominal_bytes or one.payload_bytes or one.compressed_bytes for one in report.artifacts)


def size_cells(artifact: ArtifactFigures, report: Report, form: str = "{} ({} %)") -> list[str]:
    """Return the mean bits of a parameter, and the four sizes in millions of bytes, each with its share of float."""
    reference = artifact_of(report, FLOAT)
    bits = NOTHING if artifact.weight_bits_mean is None else f"{artifact.weight_bits_mean:.3g}"
    return [bits, *(_size_cell(getattr(artifact, kind), getattr(reference, kind, None), form) for kind in _SIZES)]


def load_cells(artifact: ArtifactFigures) -> tuple[str, str]:
    """Return the time and the memory of loading a file."""
    if artifact.load_ms is None or artifact.load_memory_bytes is None:
        return NOTHING, NOTHING
    return milliseconds(artifact.load_ms), f"{artifact.load_memory_bytes / 1e6:.1f}"


def _sizes_mean(report: Report) -> Iterator[str]:
    """Yield what the columns mean, and which files were not loaded."""
    yield from _SIZES_MEAN
    if any(one.load_ms is not None for one in report.artifacts):
        yield _LOADING_MEANS
    for one in report.artifacts:
        if one.load_missing:
            yield f"{clean(one.name)} was not loaded for this: {clean(one.load_missing)}"


def _size_cell(size: int | None, reference: int | None, form: str) -> str:
    if size is None or reference is None:
        return NOTHING if size is None else megabytes(size)
    return form.format(megabytes(size), "100" if size == reference else f"{100 * size / reference:.1f}")


def integers_section(report: Report) -> Section | None:
    """Return what of each file runs on integers, and why the rest does not; None where nothing was quantized."""
    quantized = [artifact for artifact in report.artifacts if artifact.quantized]
    if not quantized:
        return None
    headings = ("file", "convolutions", "linear layers", "integer operators", "cosine to its simulation", "lowest")
    tables = [Table("What runs on integers", headings, [_integer_row(artifact) for artifact in quantized])]
    rows = [_island_row(artifact, island) for artifact in quantized for island in artifact.islands]
    if rows:
        named = ("file", "operators", "why", "groups", "of the time")
        tables.append(Table("Float islands, and why each is there", named, rows, 3))
    said = [f"{clean(artifact.name)}: {line[1]}." for artifact in quantized if (line := integer_said(artifact))]
    said += [f"{clean(one.name)}: placement {clean(one.placement)}." for one in quantized if one.placement]
    said += list(_islands_said(quantized))
    return Section("integers", "What runs on integers, and float islands", said, tables)


def _islands_said(quantized: Sequence[ArtifactFigures]) -> Iterator[str]:
    if not any(artifact.islands or artifact.float_islands for artifact in quantized):
        yield "No float islands: nothing fell back to float that should not have."
    for artifact in quantized:
        if artifact.float_islands and not artifact.islands:
            yield computes_in_float(artifact)


def computes_in_float(artifact: ArtifactFigures) -> str:
    """Return which operators of a file compute in float and should not, in short."""
    return f"{clean(artifact.name)} computes in float: {', '.join(map(clean, artifact.float_islands))}."


def _integer_row(artifact: ArtifactFigures) -> list[str]:
    convolutions = _of(artifact.integer_convolutions, artifact.convolutions)
    linear = _of(artifact.integer_linear_layers, artifact.linear_layers)
    share = NOTHING if artifact.integer_share is None else percent(artifact.integer_share)
    found = artifact.simulation_agreement
    cosines = (cosine(found.cosine_mean), cosine(found.cosine_min)) if found else (NOTHING, NOTHING)
    return [clean(artifact.name), convolutions, linear, share, *cosines]


def _of(part: int | None, whole: int | None) -> str:
    return NOTHING if part is None or whole is None else f"{part} of {whole}"


def _island_row(artifact: ArtifactFigures, island: IslandFigures) -> list[str]:
    kinds = " + ".join(f"{n} {clean(kind, 30)}" for kind, n in island.operators.items())
    share = NOTHING if island.share is None else percent(island.share)
    return [clean(artifact.name), kinds, clean(island.reason), str(island.count), share]


def integer_said(artifact: ArtifactFigures) -> tuple[bool, str] | None:
    """Return whether an artifact's convolutions run on integers as they should, and that in a sentence, or None."""
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
