"""model_card.md: what a model hub reads in its front matter, and what somebody must know before using the files."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import yaml

from qface_toolkit.report._evaluation import Evaluation
from qface_toolkit.report._evaluation_tables import ACCURACY, LOSSES, evaluation_sections
from qface_toolkit.report._evaluation_verdict import data_said
from qface_toolkit.report._headline import verdict
from qface_toolkit.report._markup import escape, markdown_table, said_markdown
from qface_toolkit.report._sizes import size_section
from qface_toolkit.report.artifacts import FIGURE_HEADINGS, main_artifact, speed_cells, speed_meaning
from qface_toolkit.report.evaluation import section_markdown
from qface_toolkit.report.figures import clean, cosine, megabytes, runtime_name
from qface_toolkit.report.schema import Report

_TAGS = ["face-recognition", "face-verification", "quantization", "int8", "onnx"]
_HUB_LICENCES = (
    "apache-2.0",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "gpl-3.0",
    "lgpl-3.0",
    "unlicense",
)
"""Names that a hub knows; any other licence goes under `other`, with its own words beside it."""
_REAL = {True: "no real face", False: "real faces", None: "it is unknown whether they show real faces"}
_LONGEST = 1000
SIMULATED, EIGHT = "simulated", "int8"


def to_model_card(report: Report, evaluation: Evaluation | None = None) -> str:
    """Return the card of a result as Markdown with YAML front matter; figures have intervals where they were had."""
    sections = (
        _summary(report, evaluation),
        _use(report),
        _making(report),
        _figures(report),
        size_section(report),
        _accuracy(report, evaluation),
        _limits(report, evaluation),
        _licence(report),
        _files(report),
    )
    front = yaml.safe_dump(_front_matter(report, evaluation), sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{front}---\n\n" + "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _summary(report: Report, evaluation: Evaluation | None) -> list[str]:
    title = f"# {escape(report.source.name)}, {_kind(report)}"
    return "\n\n".join((title, *said_markdown(verdict(report, evaluation)))).split("\n")


def _front_matter(report: Report, evaluation: Evaluation | None) -> dict[str, Any]:
    licence = clean(report.source.spec.license)
    known = licence.lower() if licence.lower() in (*_HUB_LICENCES, "unknown") else "other"
    front: dict[str, Any] = {"license": known}
    if known == "other":
        front["license_name"] = licence
    simulated = _kind(report) == SIMULATED
    tags, library = (_TAGS[:3], "pytorch") if simulated else (_TAGS, "onnxruntime")
    front |= {"library_name": library, "pipeline_tag": "image-feature-extraction", "tags": list(tags)}
    metrics = list(_metrics(report, evaluation))
    if metrics:
        front["model-index"] = [{"name": f"{clean(report.source.name)} {_kind(report)}", "results": metrics}]
    return front


def _kind(report: Report) -> str:
    """Return what the result's first artifact is, in a word or two; narrower weights are counted in bits."""
    artifact = main_artifact(report)
    if artifact is None:
        return EIGHT
    if artifact.runtime == "simulation":
        return SIMULATED
    bits = artifact.weight_bits_mean
    return EIGHT if bits is None or bits >= 8 else f"int8 with weights of {bits:.1f} bits"


def _metrics(report: Report, evaluation: Evaluation | None) -> Iterator[dict[str, Any]]:
    artifact = main_artifact(report)
    if artifact is not None and artifact.agreement is not None:
        what = {"type": "drawings", "name": f"held-out drawings ({artifact.agreement.images})"}
        yield _result(what, {"cosine_mean": artifact.agreement.cosine_mean})
    if evaluation is not None:
        every, listed = evaluation.figures.every_pair, evaluation.figures.pair_list
        rates = {f"tar@{far}": tar for far, tar in every.rates.tar.items()} if every else {}
        rates |= {"pair_accuracy": listed.pair_accuracy} if listed else {}
        if rates:
            yield _result({"type": evaluation.data.kind, "name": clean(evaluation.data.name)}, rates)


def _result(dataset: dict[str, str], figures: dict[str, float]) -> dict[str, Any]:
    metrics = [{"type": name, "name": name, "value": round(value, 6)} for name, value in figures.items()]
    return {"task": {"type": "image-feature-extraction"}, "dataset": dataset, "metrics": metrics}


def _use(report: Report) -> list[str]:
    spec = report.source.spec
    height, width = spec.input_size
    return [
        "## Intended use",
        "",
        f"Embeddings of aligned face crops, for comparing faces: {height}x{width} pixels, {spec.color.upper()}, "
        f"{spec.embedding_size} numbers. The files stand for the float model "
        f"{escape(report.source.name)} where size and time matter, and are meant for nothing that the float model "
        "is not meant for. Whether it may recognise people, and which, is for its own card and the law to say.",
    ]


def _making(report: Report) -> list[str]:
    used = report.calibration
    return [
        "## How it was made",
        "",
        f"- recipe {escape(report.recipe.name)}, seed {report.seed}",
        f"- calibrated on {used.count} images of the set {escape(used.set)} ({escape(used.kind)}): "
        f"{_REAL[used.contains_no_real_face_data]}; sha256 of their pixels {used.sha256}",
        f"- source: sha256 {report.source.sha256}, origin: {escape(report.source.spec.origin)}",
        *(f"- warning: {escape(warning)}" for warning in used.warnings),
    ]


def _figures(report: Report) -> list[str]:
    headings = [heading for heading in FIGURE_HEADINGS if heading != "size"]
    rows = []
    for one in report.artifacts:
        found = one.agreement
        cosines = (found.cosine_mean, found.cosine_p1, found.cosine_min) if found else (None,) * 3
        rows.append(
            (
                escape(one.name),
                escape(runtime_name(one.runtime)),
                megabytes(one.size_bytes),
                *speed_cells(one),
                *map(cosine, cosines),
            )
        )
    said = [
        f"Cosines to the float model on {one.agreement.images} held-out drawings."
        for one in report.artifacts[:1]
        if one.agreement
    ]
    machine = f"Times: one image on one thread of {escape(report.environment.cpu)}."
    return [
        "## Size, time and agreement",
        "",
        *markdown_table(headings, rows),
        "",
        *said,
        f"{machine} {'; '.join(speed_meaning(report))}.",
    ]


def _accuracy(report: Report, evaluation: Evaluation | None) -> list[str]:
    lines = ["## Accuracy", ""]
    if evaluation is None:
        return [*lines, "Not measured on faces. `qface evaluate` measures it on yours."]
    what = f"{escape(evaluation.model.name)} on {escape(data_said(evaluation), _LONGEST)}."
    chosen = [one for one in evaluation_sections(evaluation) if one.title in (ACCURACY, LOSSES)]
    # Their headings are replaced by the card's own.
    parts = [part for one in chosen for part in section_markdown(replace(one, title=""))]
    return [*lines, what, "", *"\n\n".join(parts).split("\n")]


def _limits(report: Report, evaluation: Evaluation | None) -> list[str]:
    drawn = evaluation is None or evaluation.data.kind == "drawings"
    faces = ["- No figure here was taken on faces of real people."] if drawn else []
    groups = [] if evaluation and evaluation.groups else ["- Losses were not compared between groups of people."]
    islands = [
        f"- {escape(one.name)} computes in float: {escape(', '.join(one.float_islands))}"
        for one in report.artifacts
        if one.quantized and one.float_islands
    ]
    return [
        "## Known limits",
        "",
        *faces,
        *groups,
        *islands,
        "- Thresholds move a little with quantization: take the recommended one, or find yours anew.",
        "- Times hold for the processor named above; another one may rank the files otherwise.",
        "- What the float model does wrong, these files do wrong too.",
    ]


def _licence(report: Report) -> list[str]:
    licence = escape(report.source.spec.license)
    return ["## Licence", "", f"That of the source model, carried over: {licence}. The files contain its weights."]


def _files(report: Report) -> list[str]:
    rows = [(escape(one.name), str(one.size_bytes), one.sha256) for one in report.artifacts]
    return ["## Files", "", *markdown_table(("file", "bytes", "sha256"), rows)]
