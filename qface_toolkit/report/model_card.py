"""model_card.md: what a model hub reads in its front matter, and what people must know before using the files."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import yaml

from qface_toolkit.report.artifacts import computes_in_float, figures_section, has_sizes, main_artifact, sizes_section
from qface_toolkit.report.evaluation import Evaluation
from qface_toolkit.report.evaluation_sections import ACCURACY, LOSSES, evaluation_sections
from qface_toolkit.report.evaluation_verdict import data_said
from qface_toolkit.report.figures import clean
from qface_toolkit.report.markdown import markdown_page
from qface_toolkit.report.page import Notes, Section
from qface_toolkit.report.provenance import files_section
from qface_toolkit.report.schema import Report
from qface_toolkit.report.summary import verdict

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
_SIMULATED, _EIGHT_BITS = "simulated", "int8"


def to_model_card(report: Report, evaluation: Evaluation | None = None) -> str:
    """Return the card of a result as Markdown with YAML front matter; figures have intervals where they were had."""
    sections = (
        _use(report),
        _making(report),
        _figures(report),
        *([sizes_section(report)] if has_sizes(report) else []),
        _accuracy(evaluation),
        _limits(report, evaluation),
        _licence(report),
        files_section(report),
    )
    page = markdown_page(f"{report.source.name}, {_kind(report)}", verdict(report, evaluation), sections)
    return card_text(_front_matter(report, evaluation), page)


def _front_matter(report: Report, evaluation: Evaluation | None) -> dict[str, Any]:
    front = licence_front(report.source.spec.license)
    simulated = _kind(report) == _SIMULATED
    tags, library = (_TAGS[:3], "pytorch") if simulated else (_TAGS, "onnxruntime")
    front |= {"library_name": library, "pipeline_tag": "image-feature-extraction", "tags": list(tags)}
    metrics = list(_metrics(report, evaluation))
    if metrics:
        front["model-index"] = [{"name": f"{clean(report.source.name)} {_kind(report)}", "results": metrics}]
    return front


def licence_front(licence: str) -> dict[str, Any]:
    """Return the lines of a front matter that name a licence, under a name that a hub knows."""
    licence = clean(licence)
    known = licence.lower() if licence.lower() in (*_HUB_LICENCES, "unknown") else "other"
    return {"license": known, **({"license_name": licence} if known == "other" else {})}


def card_text(front: dict[str, Any], page: str) -> str:
    """Return a card: its front matter as YAML, then its page."""
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{head}---\n\n{page}"


def _kind(report: Report) -> str:
    """Return what the result's first artifact is, in a word or two; narrower weights are counted in bits."""
    artifact = main_artifact(report)
    if artifact is None:
        return _EIGHT_BITS
    if artifact.simulated:
        return _SIMULATED
    bits = artifact.weight_bits_mean
    return _EIGHT_BITS if bits is None or bits >= 8 else f"int8 with weights of {bits:.1f} bits"


def _metrics(report: Report, evaluation: Evaluation | None) -> Iterator[dict[str, Any]]:
    artifact = main_artifact(report)
    if artifact is not None and artifact.agreement is not None:
        what = {"type": "drawings", "name": f"held-out drawings ({artifact.agreement.images})"}
        yield hub_result(what, {"cosine_mean": artifact.agreement.cosine_mean})
    if evaluation is not None:
        every, listed = evaluation.figures.every_pair, evaluation.figures.pair_list
        rates = {f"tar@{far}": tar for far, tar in every.rates.tar.items()} if every else {}
        rates |= {"pair_accuracy": listed.pair_accuracy} if listed else {}
        if rates:
            yield hub_result({"type": evaluation.data.kind, "name": clean(evaluation.data.name)}, rates)


def hub_result(dataset: dict[str, str], figures: dict[str, float]) -> dict[str, Any]:
    """Return figures on one set of images as a hub lists them."""
    metrics = [{"type": name, "name": name, "value": round(value, 6)} for name, value in figures.items()]
    return {"task": {"type": "image-feature-extraction"}, "dataset": dataset, "metrics": metrics}


def _use(report: Report) -> Section:
    spec = report.source.spec
    height, width = spec.input_size
    said = (
        f"Embeddings of aligned face crops, for comparing faces: {height}x{width} pixels, {spec.color.upper()}, "
        f"{spec.embedding_size} numbers. The files stand for the float model "
        f"{clean(report.source.name)} where size and time matter, and are meant for nothing that the float model "
        "is not meant for. Whether it may recognise people, and which, is for its own card and the law to say."
    )
    return Section("use", "Intended use", (said,))


def _making(report: Report) -> Section:
    used = report.calibration
    notes = (
        f"recipe {clean(report.recipe.name)}, seed {report.seed}",
        f"calibrated on {used.count} images of the set {clean(used.set)} ({clean(used.kind)}): "
        f"{_REAL[used.contains_no_real_face_data]}; sha256 of their pixels {used.sha256}",
        f"source: sha256 {report.source.sha256}, origin: {clean(report.source.spec.origin)}",
        *(f"warning: {clean(warning)}" for warning in used.warnings),
    )
    return Section("making", "How it was made", blocks=(Notes(notes),))


def _figures(report: Report) -> Section:
    machine = f"Times: one image on one thread of {clean(report.environment.cpu)}."
    return replace(figures_section(report), title="Size, time and agreement", said=(machine,))


def _accuracy(evaluation: Evaluation | None) -> Section:
    if evaluation is None:
        return Section("accuracy", "Accuracy", ("Not measured on faces. qface evaluate measures it on yours.",))
    what = f"{clean(evaluation.model.name)} on {data_said(evaluation)}."
    chosen = [one for one in evaluation_sections(evaluation) if one.key in (ACCURACY, LOSSES)]
    return Section("accuracy", "Accuracy", (what,), parts=chosen)


def _limits(report: Report, evaluation: Evaluation | None) -> Section:
    drawn = evaluation is None or evaluation.data.kind == "drawings"
    notes = (
        *(["No figure here was taken on faces of real people."] if drawn else []),
        *([] if evaluation and evaluation.groups else ["Losses were not compared between groups of people."]),
        *(computes_in_float(one) for one in report.artifacts if one.quantized and one.float_islands),
        "Thresholds move a little with quantization: take the recommended one, or find yours anew.",
        "Times hold for the processor named above; another one may rank the files otherwise.",
        "What the float model does wrong, these files do wrong too.",
    )
    return Section("limits", "Known limits", blocks=(Notes(notes),))


def _licence(report: Report) -> Section:
    licence = clean(report.source.spec.license)
    said = f"That of the source model, carried over: {licence}. The files contain its weights."
    return Section("licence", "Licence", (said,))
