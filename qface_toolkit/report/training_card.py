"""model_card.md of a trained student: what a hub reads, how images are prepared for it, and what it cannot do."""

from dataclasses import replace
from typing import Any

from qface_toolkit.report.figures import clean, cosine
from qface_toolkit.report.markdown import markdown_page
from qface_toolkit.report.model_card import card_text, hub_result, licence_front
from qface_toolkit.report.page import Code, Facts, Notes, Section
from qface_toolkit.report.training import Training
from qface_toolkit.report.training_making import COMPRESS, EVALUATE, preparation
from qface_toolkit.report.training_sections import course_section, epochs_table, teachers_section
from qface_toolkit.report.training_verdict import kept_epoch, taught_by, training_verdict

_TAGS = ["face-recognition", "face-verification", "knowledge-distillation"]
_REAL = {
    True: "No real face was in the training data: how well it tells real people apart has to be measured.",
    False: "Real faces were in the training data: what the law and their licence allow holds for this model too.",
    None: "It is unknown whether real faces were in the training data: the images are the user's own.",
}


def training_card(training: Training) -> str:
    """Return the student's card as Markdown with YAML front matter."""
    sections = (
        _use(training),
        _making(training),
        _held_out(training),
        _limits(training),
        _licence(training),
        _compression(),
        teachers_section(training),
    )
    page = markdown_page(training.student.name, training_verdict(training), sections)
    return card_text(_front_matter(training), page)


def _front_matter(training: Training) -> dict[str, Any]:
    front = licence_front(training.student.license)
    front |= {"library_name": "pytorch", "pipeline_tag": "image-feature-extraction", "tags": list(_TAGS)}
    figures = _figures(training)
    if figures:
        what = {"type": clean(training.data.kind), "name": f"held out of {clean(training.data.name)}"}
        results = [hub_result(what, figures)]
        front["model-index"] = [{"name": clean(training.student.name), "results": results}]
    return front


def _figures(training: Training) -> dict[str, float]:
    end = kept_epoch(training)
    if end is None:
        return {}
    known = {"cosine_mean": end.cosine_mean, "pair_accuracy": end.pair_accuracy, "eer": end.eer}
    return {name: value for name, value in known.items() if value is not None} | {
        f"tar@{far}": rate for far, rate in end.tar.items()
    }


def _use(training: Training) -> Section:
    said = (
        "Embeddings of aligned face crops, for comparing faces. Whether it may recognise people, and which, is for the "
        "licences below and the law to say.",
        preparation(training.student),
    )
    height, width = training.student.input_size
    student = training.student
    facts = (
        ("size", f"{height}x{width} pixels"),
        ("mean", " ".join(f"{value:g}" for value in student.mean)),
        ("std", " ".join(f"{value:g}" for value in student.std)),
        ("colour", student.color),
        ("crop", student.crop),
    )
    return Section("use", "Intended use", said, (Facts(facts),))


def _making(training: Training) -> Section:
    data, end = training.data, kept_epoch(training)
    labels = f"{data.identities:,} identities" if data.identities else "no labels"
    notes = (
        f"learnt from {taught_by(training)}",
        f"on {data.examples:,} images of {clean(data.name)} ({clean(data.kind)}; {labels}), sha256 {data.sha256}",
        f"{training.steps:,} steps, seed {training.environment.seed}, started from "
        f"{clean(training.student.started_from) or 'random weights'}",
        *([f"held-out cosine to the teacher {cosine(end.cosine_mean)}"] if end and end.cosine_mean is not None else []),
        f"sha256 of the file {training.student.sha256}",
        *map(clean, training.notes),
    )
    return Section("making", "How it was trained", blocks=(Notes(notes),))


def _held_out(training: Training) -> Section:
    """Return the figures of the weights that were kept; the report has those of every epoch."""
    course, end = course_section(training), kept_epoch(training)
    return replace(course, title="Figures", blocks=(epochs_table(training, (end,)),) if end else ())


def _limits(training: Training) -> Section:
    notes = (
        _REAL[training.data.contains_no_real_face_data],
        "Held-out figures are of the set that it was trained on, and flatter it: judge it on faces that it will meet.",
        "Nothing was compared between groups of people.",
        *(["What its teachers do wrong, it may do wrong too."] if training.teachers else []),
    )
    return Section("limits", "Known limits", blocks=(Notes(notes), Code("To judge it", EVALUATE)))


def _licence(training: Training) -> Section:
    of_teachers = "; ".join(f"{clean(one.name, 80)}: {clean(one.license)}" for one in training.teachers)
    said = f"That of this model: {clean(training.student.license)}. It learnt from others, whose licences may bind it"
    return Section("licence", "Licence", (f"{said}: {of_teachers or 'of the images'}; and the images have theirs.",))


def _compression() -> Section:
    said = "DIR is the folder of this card; the result is int8, and comes with a report of its own."
    return Section("compress", "How to compress it", (said,), (Code("To compress it", COMPRESS),))
