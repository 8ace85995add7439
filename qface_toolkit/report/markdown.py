"""report.md: the report for a person who decides whether to ship, readable as text and as a rendered page."""

from collections.abc import Sequence

from qface_toolkit.report._agreement import AgreementFigures
from qface_toolkit.report._budget import BudgetBlock
from qface_toolkit.report._evaluation import Evaluation
from qface_toolkit.report._headline import verdict
from qface_toolkit.report._ledger import ParityBlock
from qface_toolkit.report._markup import escape, markdown_table, said_markdown
from qface_toolkit.report._sensitivity import SensitivityBlock
from qface_toolkit.report._sizes import size_section
from qface_toolkit.report.allocation import markdown_section
from qface_toolkit.report.artifacts import (
    FIGURE_HEADINGS,
    float_rows,
    images_said,
    integer_said,
    island_said,
    latency_cells,
    runtimes,
    speed_cells,
    speed_meaning,
)
from qface_toolkit.report.budget import HEADINGS as PARETO_HEADINGS
from qface_toolkit.report.budget import budget_said, kept_said, pareto_rows
from qface_toolkit.report.figures import NOTHING, clean, cosine, megabytes, percent, runtime_name, threads, times
from qface_toolkit.report.parity import largest_drops, matrix, parity_said
from qface_toolkit.report.schema import (
    ArtifactFigures,
    CalibrationUsed,
    Report,
    VerificationBlock,
)
from qface_toolkit.report.sensitivity import HEADINGS, PLOT, sensitivity_said, worst_quantizers

LONGEST_COMMAND = 4000
QUANTIZERS_SHOWN = 12
REAL_FACES = {
    True: "yes: these images are drawings",
    False: "no: these images show real faces",
    None: "unknown: the images are the user's own",
}


def to_markdown(report: Report, evaluation: Evaluation | None = None) -> str:
    """Return the report as GitHub-flavoured Markdown; text from outside can neither be markup nor HTML.

    `evaluation` is one of a file of the report.
    """
    sections = (
        _summary(report, evaluation),
        _figures(report),
        size_section(report),
        _budget(report.budget) if report.budget else [],
        markdown_section(report.allocation) if report.allocation else [],
        _fidelity(report.artifacts),
        _parity(report.parity) if report.parity else [],
        _sensitivity(report.sensitivity) if report.sensitivity else [],
        _verification(report.verification) if report.verification else [],
        _calibration(report.calibration),
        _loading(report),
        _origin(report),
        ["## Make it again", "", *(f"    {clean(command, LONGEST_COMMAND)}" for command in report.commands)],
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _summary(report: Report, evaluation: Evaluation | None) -> list[str]:
    paragraphs = [f"# {escape(report.source.name)}, compressed", *said_markdown(verdict(report, evaluation))]
    return "\n\n".join(paragraphs).split("\n")


def _figures(report: Report) -> list[str]:
    rows: list[Sequence[str]] = []
    for runtime in runtimes(report):
        float_latency = float_rows(report, runtime)
        if float_latency:
            cells = latency_cells(float_latency)
            rows.append(
                (
                    "float model",
                    escape(runtime_name(runtime)),
                    NOTHING,
                    NOTHING,
                    *cells,
                    NOTHING,
                    times(1.0),
                    *[NOTHING] * 3,
                )
            )
        rows += [_figures_row(artifact) for artifact in report.artifacts if artifact.runtime == runtime]
    notes = [
        f"- {escape(one.name)} was not timed: {escape(one.latency_missing)}"
        for one in report.artifacts
        if one.latency_missing
    ]
    return ["## Float against compressed", "", *markdown_table(FIGURE_HEADINGS, rows), "", *_conditions(report), *notes]


def _figures_row(artifact: ArtifactFigures) -> Sequence[str]:
    sizes = (megabytes(artifact.size_bytes), percent(artifact.size_ratio))
    names = (escape(artifact.name), escape(runtime_name(artifact.runtime)))
    return (*names, *sizes, *speed_cells(artifact), *_cosines(artifact.agreement))


def _cosines(found: AgreementFigures | None) -> tuple[str, str, str]:
    if found is None:
        return NOTHING, NOTHING, NOTHING
    return cosine(found.cosine_mean), cosine(found.cosine_p1), cosine(found.cosine_min)


def _conditions(report: Report) -> list[str]:
    """Return what a reader must know to trust the table: threads, batch, rounds and images."""
    timed = [one.latency for one in report.artifacts if one.latency] or list(report.float_latency.values())
    lines = [f"- latency: {threads(one.threads)}, batch {one.batch}, {len(one.samples_ms)} rounds" for one in timed[:1]]
    lines += [f"- {escape(line)}" for line in images_said(report)]
    return [*lines, *(f"- {line}" for line in speed_meaning(report))]


def _budget(block: BudgetBlock) -> list[str]:
    rows = [[escape(cell) for cell in row] for row in pareto_rows(block)]
    lines = ["## Pareto: cosine against latency and bytes", "", escape(budget_said(block)[1], LONGEST_COMMAND), ""]
    lines += markdown_table(PARETO_HEADINGS, rows)
    lines += ["", f"Cosines on {block.images} held-out drawings; one image on 1 thread, timed in turns."]
    if not block.kept:
        return lines
    sums = "Float sums depend on the kernel: behind these layers a code may differ from the simulated one by one."
    return [*lines, "", escape(kept_said(block), LONGEST_COMMAND), "", sums]


def _fidelity(artifacts: Sequence[ArtifactFigures]) -> list[str]:
    rows = [_fidelity_row(artifact) for artifact in artifacts if artifact.quantized]
    if not rows:
        return []
    headings = ("file", "integer operators", "float islands", "mean cosine to its simulation", "lowest")
    notes = [note for artifact in artifacts if artifact.quantized for note in _integer_notes(artifact)]
    return ["## What runs on integers", "", *markdown_table(headings, rows), *(["", *notes] if notes else [])]


def _integer_notes(artifact: ArtifactFigures) -> list[str]:
    said = integer_said(artifact)
    islands = [f"- {escape(artifact.name)}, in float: {escape(island_said(island))}" for island in artifact.islands]
    return [*([f"- {escape(artifact.name)}: {escape(said[1])}"] if said else []), *islands]


def _fidelity_row(artifact: ArtifactFigures) -> Sequence[str]:
    share, islands = NOTHING, NOTHING
    if artifact.integer_share is not None:
        share = percent(artifact.integer_share)
        islands = ", ".join(escape(island) for island in artifact.float_islands) or "none"
    mean, _, lowest = _cosines(artifact.simulation_agreement)
    return escape(artifact.name), share, islands, mean, lowest


def _parity(block: ParityBlock) -> list[str]:
    headings, *rows = matrix(block)
    said = f"Cosines between embeddings of {block.images} held-out drawings: mean below the diagonal, lowest above it."
    lines = ["## Who says the same", "", escape(parity_said(block), LONGEST_COMMAND), "", said, ""]
    lines += markdown_table([escape(heading) for heading in headings], ([escape(cell) for cell in row] for row in rows))
    if block.layers is None:
        return lines
    headings, *rows = largest_drops(block.layers)
    what = f"{escape(block.layers.simulation)} simulation against the float network, {block.layers.images} images"
    told = f"Where most is lost ({what}); report.json has all {len(block.layers.tensors)} tensors:"
    return [*lines, "", told, "", *markdown_table(headings, ([escape(cell) for cell in row] for row in rows))]


def _sensitivity(block: SensitivityBlock) -> list[str]:
    rows = [[escape(cell) for cell in row] for row in worst_quantizers(block, QUANTIZERS_SHOWN)]
    lines = ["## Where the loss is", "", escape(sensitivity_said(block), LONGEST_COMMAND), ""]
    told = f"The worst {len(rows)} of {len(block.quantizers)} quantizers; report.json has them all:"
    return [*lines, f"![loss of each quantizer]({PLOT})", "", told, "", *markdown_table(HEADINGS, rows)]


def _verification(block: VerificationBlock) -> list[str]:
    fars = list(block.float_model.tar)
    rows = [
        (
            escape(name),
            f"{percent(one.pair_accuracy)} (spread {percent(one.pair_accuracy_std)})",
            *(percent(one.tar[far]) if far in one.tar else NOTHING for far in fars),
        )
        for name, one in (("float model", block.float_model), *block.artifacts.items())
    ]
    headings = ("model", "accuracy", *(f"TAR at FAR {escape(far)}" for far in fars))
    return ["## Telling people apart", "", escape(block.protocol), "", *markdown_table(headings, rows)]


def _calibration(used: CalibrationUsed) -> list[str]:
    parameters = ", ".join(f"{key} = {value}" for key, value in used.parameters.items())
    return [
        "## Calibration images",
        "",
        f"- set: {escape(used.set)} ({escape(used.kind)}), {used.count} images, seed {used.seed}",
        f"- parameters: {escape(parameters) or 'none'}",
        f"- sha256 of the pixels: {used.sha256}",
        f"- free of real face data: {REAL_FACES[used.contains_no_real_face_data]}",
        *(f"- warning: {escape(warning)}" for warning in used.warnings),
    ]


def _loading(report: Report) -> list[str]:
    lines = ["## How to load each file", "", input_said(report)]
    for artifact in report.artifacts:
        lines += ["", f"### {escape(artifact.name)}", "", *(f"    {line}" for line in loading_code(artifact, report))]
    return lines


def input_said(report: Report) -> str:
    """Return what the model takes and gives."""
    spec = report.source.spec
    height, width = spec.input_size
    return (
        f"Input: float32 [N, 3, {height}, {width}], colour order {spec.color}, (pixel - mean) / std on pixels "
        f"0..255 with mean {_triple(spec.mean)} and std {_triple(spec.std)}. "
        f"Output: float32 [N, {spec.embedding_size}]."
    )


def _takes_pixels(artifact: ArtifactFigures, report: Report) -> bool:
    asked = report.recipe.values.get("export")
    wanted = asked.get("input") if isinstance(asked, dict) else None
    return wanted == "uint8" and artifact.quantized and artifact.runtime == "onnxruntime"


def loading_code(artifact: ArtifactFigures, report: Report) -> list[str]:
    """Return the lines of Python that run one file."""
    name = repr(clean(artifact.name))
    if artifact.runtime == "onnxruntime":
        height, width = report.source.spec.input_size
        pixels = _takes_pixels(artifact, report)
        fed = '"image": pixels' if pixels else '"input": images'
        return [
            "import onnxruntime",
            f"session = onnxruntime.InferenceSession({name})",
            *([f"# pixels as they are: uint8 [N, {height}, {width}, 3], RGB"] if pixels else []),
            f'(embedding,) = session.run(["embedding"], {{{fed}}})',
        ]
    if artifact.runtime == "torch":
        engine = repr(clean(artifact.engine or ""))
        line = f"torch.backends.quantized.engine = {engine}  # before loading, or the numbers are wrong"
        set_engine = [line] if artifact.engine else []
        return ["import torch", *set_engine, f"embedding = torch.jit.load({name})(torch.from_numpy(images))"]
    if artifact.runtime == "simulation":
        return [f"# weights and what they are, for torch: qface evaluate {name} --faces DIR"]
    return [f"# {name} is read by {runtime_name(artifact.runtime)}"]


def _origin(report: Report) -> list[str]:
    source, machine = report.source, report.environment
    versions = ", ".join(f"{name} {version}" for name, version in sorted(machine.versions.items()))
    rows = [(escape(step.name), f"{step.seconds:.1f}") for step in report.steps]
    total = sum(step.seconds for step in report.steps)
    return [
        "## Where this comes from",
        "",
        f"- model: {escape(source.name)}, {escape(source.architecture)}, {source.parameters} parameters",
        f"- sha256 of the model: {source.sha256}",
        f"- licence: {escape(source.spec.license)}; origin: {escape(source.spec.origin)}",
        *(f"- note: {escape(note)}" for note in source.notes),
        f"- recipe: {escape(report.recipe.name)}, seed {report.seed}",
        *(
            f"- decided by the clock: {escape(option)} = {value}; give it in place of a time to repeat this"
            for option, value in report.recipe.choices.items()
        ),
        *(f"- chosen among all in trace.json: {escape(said)}" for said in report.recipe.chosen),
        f"- CPU: {escape(machine.cpu)}, {machine.cores} cores, flags: {escape(' '.join(machine.cpu_flags)) or 'none'}",
        f"- system: {escape(machine.os)}, Python {escape(machine.python)}, {threads(machine.threads)}",
        f"- versions: {escape(versions)}",
        f"- peak memory: {report.peak_memory_bytes / 2**20:.0f} MiB",
        "",
        *markdown_table(("step", "seconds"), [*rows, ("in all", f"{total:.1f}")]),
    ]


def _triple(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
