"""The middle of report.html: the evidence behind the first screen, from the figures of every file to single layers."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from qface_toolkit.report import plots
from qface_toolkit.report._budget import BudgetBlock
from qface_toolkit.report._cost import CostFigures
from qface_toolkit.report._evaluation import Evaluation
from qface_toolkit.report._evaluation_tables import ACCURACY, evaluation_sections
from qface_toolkit.report._evaluation_verdict import evaluation_verdict
from qface_toolkit.report._headline import belongs, plain
from qface_toolkit.report._inline_svg import inline_svg
from qface_toolkit.report._ledger import LayerFigures
from qface_toolkit.report._losses import losses
from qface_toolkit.report._page import Cell, Notes, Plot, Section, Table
from qface_toolkit.report._sizes import HEADINGS as SIZE_HEADINGS
from qface_toolkit.report._sizes import TITLE as SIZE_TITLE
from qface_toolkit.report._sizes import size_notes, size_rows
from qface_toolkit.report.allocation import page_section
from qface_toolkit.report.artifacts import (
    FIGURE_HEADINGS,
    float_rows,
    images_said,
    integer_said,
    latency_cells,
    main_artifact,
    runtimes,
    speed_cells,
    speed_meaning,
)
from qface_toolkit.report.budget import HEADINGS as PARETO_HEADINGS
from qface_toolkit.report.budget import budget_said, kept_said, pareto_rows
from qface_toolkit.report.figures import (
    NOTHING,
    clean,
    cosine,
    fine_cosine,
    megabytes,
    milliseconds,
    percent,
    runtime_name,
    threads,
    times,
)
from qface_toolkit.report.schema import ArtifactFigures, IslandFigures, Report, VerificationBlock

_ARITHMETIC = {"integer": "integers", "float": "float", "move": "(moves data)"}


def evidence(report: Report, evaluation: Evaluation | None) -> Iterator[Section]:
    """Yield the sections, those that there is something for."""
    yield _figures(report)
    yield from _sizes(report)
    if report.budget:
        yield _budget(report.budget)
    if report.allocation:
        yield page_section(report.allocation)
    if report.verification:
        yield _verification(report.verification)
    if evaluation:
        yield _evaluation(evaluation, report)
    yield from _costs(report)
    yield from _integers(report.artifacts)
    yield from losses(report)


def _figures(report: Report) -> Section:
    rows = []
    for runtime in runtimes(report):
        latency = float_rows(report, runtime)
        if latency:
            cells = latency_cells(latency)
            rows.append(
                ["float model", runtime_name(runtime), NOTHING, NOTHING, *cells, NOTHING, times(1.0), *[NOTHING] * 3]
            )
        rows += [_figures_row(artifact) for artifact in report.artifacts if artifact.runtime == runtime]
    table = Table("Every file: bytes, milliseconds and cosines", FIGURE_HEADINGS, rows, texts=2)
    return Section("figures", "Float against compressed", blocks=(table, Notes(list(_conditions(report)))))


def _sizes(report: Report) -> Iterator[Section]:
    rows = size_rows(report)
    if rows:
        table = Table("Every file, as papers, its tensors, a disk and a package count", SIZE_HEADINGS, rows)
        yield Section("sizes", SIZE_TITLE, blocks=(table, Notes(list(size_notes(report)))))


def _figures_row(artifact: ArtifactFigures) -> list[str]:
    found = artifact.agreement
    cosines = (found.cosine_mean, found.cosine_p1, found.cosine_min) if found else (None, None, None)
    sizes = (megabytes(artifact.size_bytes), percent(artifact.size_ratio))
    names = (clean(artifact.name), runtime_name(artifact.runtime))
    return [*names, *sizes, *speed_cells(artifact), *map(cosine, cosines)]


def _conditions(report: Report) -> Iterator[str]:
    timed = [one.latency for one in report.artifacts if one.latency] or list(report.float_latency.values())
    for one in timed[:1]:
        yield f"latency: {threads(one.threads)}, batch {one.batch}, {len(one.samples_ms)} rounds in turns"
    yield from images_said(report)
    yield from speed_meaning(report)
    for artifact in report.artifacts:
        if artifact.latency_missing:
            yield f"{clean(artifact.name)} was not timed: {clean(artifact.latency_missing)}"


def _budget(block: BudgetBlock) -> Section:
    table = Table("What each step towards the wanted cosine costs", PARETO_HEADINGS, pareto_rows(block))
    kept = [kept_said(block)] if block.kept else []
    how = f"Cosines on {block.images} held-out drawings; one image on 1 thread, timed in turns."
    said = (budget_said(block)[1], how)
    return Section("budget", "Pareto: cosine against latency and bytes", said, (table, Notes(kept)))


def _verification(block: VerificationBlock) -> Section:
    fars = list(block.float_model.tar)
    rows = [
        [
            clean(name),
            percent(one.pair_accuracy),
            percent(one.pair_accuracy_std),
            str(one.pairs),
            *(percent(one.tar[far]) if far in one.tar else NOTHING for far in fars),
        ]
        for name, one in (("float model", block.float_model), *block.artifacts.items())
    ]
    headings = ("model", "accuracy", "spread", "pairs", *(f"TAR at FAR {clean(far, 12)}" for far in fars))
    table = Table("Verification of held-out drawings", headings, rows)
    return Section("accuracy", "Telling people apart", (clean(block.protocol),), (table,))


def _evaluation(found: Evaluation, report: Report) -> Section:
    said = [plain(one) for one in evaluation_verdict(found)]
    if not belongs(found, report):
        said.append("This evaluation is of a file that this report does not hold.")
    parts = [
        Section(
            f"evaluation-{place}",
            part.title,
            part.said,
            [Table(part.title, part.headings, part.rows)] if part.rows else (),
        )
        for place, part in enumerate(evaluation_sections(found))
        if part.title
    ]
    drawn = [
        Plot(inline_svg(picture, f"plot-evaluation-{place}", title, f"{title}; the table has the figures."), title)
        for place, (picture, title) in enumerate(_evaluation_pictures(found))
    ]
    plotted = [part.title for part in parts].index(ACCURACY)
    parts[plotted] = replace(parts[plotted], blocks=(*parts[plotted].blocks, *drawn))
    return Section("evaluation", f"Evaluated on {clean(found.data.name, 40)}", said, parts=parts)


def _evaluation_pictures(found: Evaluation) -> list[tuple[bytes, str]]:
    pictures = plots.evaluation_pictures(found)
    titles = ("DET curve: false rejects over false accepts", "How the scores of pairs are spread")
    return list(zip(pictures, titles[-len(pictures) :], strict=True)) if pictures else []


def _costs(report: Report) -> Iterator[Section]:
    artifact = main_artifact(report)
    if artifact is None or artifact.cost is None or not artifact.cost.layers:
        return
    cost, name = artifact.cost, clean(artifact.name)
    what = f"{name}: bytes and time of each layer"
    plot = Plot(inline_svg(plots.cost_picture(cost), "plot-cost", what, "The table of layers has the figures."), what)
    kinds = [_kinds(one) for one in report.artifacts if one.cost is not None and one.cost.time_ms is not None]
    parts = [Section("kinds", "By kind of operator", blocks=kinds)] if kinds else []
    said = [_cost_said(artifact, cost), "Bytes are the file's own constants, booked on the layer that reads them."]
    table = _layers(name, cost, report.parity.layers if report.parity else None)
    yield Section("layers", "Where the bytes are and where the milliseconds go", said, (plot, table), parts)


def _cost_said(artifact: ArtifactFigures, cost: CostFigures) -> str:
    largest = max(cost.layers, key=lambda layer: layer.size_bytes)
    most = f"Most bytes are in {clean(largest.name)} ({percent(largest.size_bytes / artifact.size_bytes)})"
    if cost.time_ms is None or artifact.latency is None:
        return f"{most}. The file was not timed."
    slowest = max(cost.layers, key=lambda layer: layer.time_ms or 0.0)
    share = percent((slowest.time_ms or 0.0) / cost.time_ms) if cost.time_ms else NOTHING
    profiled = f"{milliseconds(cost.time_ms)} ms in the runtime's own profile of one image on one thread"
    median = f"{milliseconds(artifact.latency.p50_ms)} ms is the median of whole calls"
    return f"{most}, most time goes into {clean(slowest.name)} ({share} of {profiled}; {median})."


def _layers(name: str, cost: CostFigures, compared: LayerFigures | None) -> Table:
    tensors = {one.tensor: one for one in compared.tensors} if compared else {}
    bytes_most = max((layer.size_bytes for layer in cost.layers), default=0) or 1
    time_most = max((layer.time_ms or 0.0 for layer in cost.layers), default=0) or 1
    rows: list[list[str | Cell]] = []
    for layer in cost.layers:
        kinds = " + ".join(kind if n == 1 else f"{n} {kind}" for kind, n in layer.operators.items()) or "(folded)"
        time = NOTHING if layer.time_ms is None else Cell(f"{layer.time_ms:.3f}", layer.time_ms / time_most)
        size = Cell(f"{layer.size_bytes / 1e3:.1f}", layer.size_bytes / bytes_most)
        close = tensors.get(layer.name)
        agreed = (fine_cosine(close.cosine), f"{close.drop:.5f}") if close else (NOTHING, NOTHING)
        rows.append([clean(layer.name, 60), clean(kinds, 80), size, time, *agreed])
    rows.append(["names, graph and facts", "", f"{cost.other_bytes / 1e3:.1f}", NOTHING, NOTHING, NOTHING])
    total = NOTHING if cost.time_ms is None else f"{cost.time_ms:.3f}"
    rows.append(["in all", "", f"{cost.size_bytes / 1e3:.1f}", total, NOTHING, NOTHING])
    headings = ("layer", "operators in the runtime", "kB", "ms", "cosine to float", "drop")
    return Table(f"Every layer of {name}, in order of execution", headings, rows, texts=2)


def _kinds(artifact: ArtifactFigures) -> Table:
    found = artifact.cost.kinds if artifact.cost else ()
    rows = [
        [
            clean(kind.kind, 40),
            _ARITHMETIC[kind.arithmetic],
            str(kind.count),
            NOTHING if kind.time_ms is None else f"{kind.time_ms:.3f}",
            NOTHING if kind.share is None else Cell(percent(kind.share), kind.share),
        ]
        for kind in found
    ]
    return Table(f"What runs for {clean(artifact.name)}", ("operator", "on", "count", "ms", "share"), rows, texts=2)


def _integers(artifacts: Sequence[ArtifactFigures]) -> Iterator[Section]:
    quantized = [artifact for artifact in artifacts if artifact.quantized]
    if not quantized:
        return
    headings = ("file", "convolutions", "linear layers", "integer operators", "cosine to its simulation", "lowest")
    table = Table("What runs on integers", headings, [_integer_row(artifact) for artifact in quantized])
    islands = [(artifact, island) for artifact in quantized for island in artifact.islands]
    said = [f"{clean(artifact.name)}: {line[1]}." for artifact in quantized if (line := integer_said(artifact))]
    if not islands:
        said.append("No float islands: nothing fell back to float that should not have.")
    rows = [_island_row(artifact, island) for artifact, island in islands]
    named = ("file", "operators", "why", "groups", "of the time")
    blocks = (table, Table("Float islands, and why each is there", named, rows, 3)) if rows else (table,)
    yield Section("integers", "What runs on integers, and float islands", said, blocks)


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
