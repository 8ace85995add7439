"""What there is to tell of a training behind the first screen, as sections: every page shows them, or some of them."""

from collections.abc import Iterator, Sequence
from functools import partial

from qface_toolkit.report.figures import NOTHING, clean, cosine, training_loss
from qface_toolkit.report.page import Facts, Notes, Plot, Section, Table
from qface_toolkit.report.training import EpochEnd, Teacher, Training
from qface_toolkit.report.training_making import flat, making_section, next_section, student_section
from qface_toolkit.report.training_plots import held_out_picture, loss_picture, rate_picture
from qface_toolkit.report.training_verdict import is_judged, kept_epoch, skipped_share

SKIPPED_SHOWN = 10
_REAL = {True: "none", False: "these images show real faces", None: "unknown: the images are the user's own"}
_MEANING = (
    "Cosine: the mean cosine between the student's and the teacher's embeddings of held-out images; 1 is no difference."
)
_PAIRS_MEANING = (
    "Accuracy: the share of held-out pairs of images that are rightly judged to show one person or two. TAR@1e-3: the "
    "share of pairs of one person that are accepted at the threshold where one in 1,000 pairs of two people is, too. "
    "EER: the share of mistakes at the threshold where both kinds are equally frequent. All three in percent."
)


def training_sections(training: Training) -> list[Section]:
    """Return how it went, what it learnt from and of whom, how it was done, and what to do next."""
    found = (
        course_section(training),
        _curves(training),
        student_section(training),
        teachers_section(training),
        data_section(training),
        making_section(training),
        next_section(),
    )
    notes = [Section("notes", "Notes", blocks=(Notes([*map(clean, training.notes)]),))] if training.notes else []
    return [one for one in (*found, *notes) if one]


def course_section(training: Training) -> Section:
    """Return the epochs, and which one was kept."""
    last = training.epochs[-1].epoch if training.epochs else 0
    lasted = "one epoch" if last == 1 else f"{last} epochs"
    ended = f"The training ended after {lasted} ({clean(training.finished)})" if last else "No epoch came to its end"
    end = kept_epoch(training)
    said = [f"{ended}; {f'the weights of epoch {end.epoch}' if end else 'the last weights'} were kept."]
    if any(map(is_judged, training.epochs)):
        said.append(_MEANING)
    if any(one.tar or one.pair_accuracy is not None or one.eer is not None for one in training.epochs):
        said.append(_PAIRS_MEANING)
    return Section("course", "How it went", said, [epochs_table(training, training.epochs)] if training.epochs else ())


def epochs_table(training: Training, ends: Sequence[EpochEnd], rates: int | None = None) -> Table:
    """Return these epochs with the figures that there are; where it is narrow, `rates` limits the columns of TAR."""
    columns = {
        "loss": [training_loss(one.loss) for one in ends],
        "cosine": [cosine(one.cosine_mean) for one in ends],
        "accuracy": [_percent(one.pair_accuracy) for one in ends],
        **{f"TAR@{far}": [_percent(one.tar.get(far)) for one in ends] for far in _rates(ends)[:rates]},
        "EER": [_percent(one.eer) for one in ends],
        "seconds": [f"{one.seconds:.1f}" if one.seconds < 1000 else f"{one.seconds:.4g}" for one in ends],
        "snapshot": [clean(one.snapshot, 40) or NOTHING for one in ends],
    }
    if rates is not None:
        del columns["snapshot"]
    shown = {heading: cells for heading, cells in columns.items() if set(cells) - {NOTHING}}
    names = [f"{one.epoch} (kept)" if one.epoch == training.chosen_epoch else str(one.epoch) for one in ends]
    return Table("Epochs", ("epoch", *shown), list(zip(names, *shown.values(), strict=True)))


def _rates(ends: Sequence[EpochEnd]) -> list[str]:
    return list(dict.fromkeys(far for one in ends for far in one.tar))


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.2f}"


def _curves(training: Training) -> Section | None:
    drawn = list(_plots(training))
    return Section("curves", "Curves", blocks=drawn, page_only=True) if drawn else None


def _plots(training: Training) -> Iterator[Plot]:
    if training.points:
        yield _plot("loss", "The loss, and its weighted parts, over the epochs", partial(loss_picture, training))
    if any(map(is_judged, training.epochs)):
        yield _plot(
            "held-out", "Figures on held-out images at the end of each epoch", partial(held_out_picture, training)
        )
    if training.points:
        caption = "The learning rate, and the length of the gradient, over the epochs"
        yield _plot("rate", caption, partial(rate_picture, training))


def _plot(key: str, caption: str, draw: "partial[bytes]") -> Plot:
    return Plot(f"plot-training-{key}", caption, f"{caption}; training.json has the figures.", draw)


def teachers_section(training: Training) -> Section:
    """Return the teachers, and in which epochs each taught."""
    if not training.teachers:
        return Section("teachers", "The teachers", ("None: it learnt from the labels of the images alone.",))
    rows = [
        [clean(one.name, 80), _taught(one, training), clean(one.license, 80), one.sha256] for one in training.teachers
    ]
    table = Table("Teachers", ("teacher", "taught", "licence", "sha256"), rows, texts=4)
    sizes = ", ".join(f"{clean(one.name, 80)}: {one.embedding_size}" for one in training.teachers)
    said = f"The student learns to give the embeddings that its teachers give. Numbers in an embedding: {sizes}."
    return Section("teachers", "The teachers", (said,), (table,))


def _taught(one: Teacher, training: Training) -> str:
    last = training.epochs[-1].epoch if training.epochs else 0
    if one.from_epoch > max(last, 1):
        return f"not yet: it was to from epoch {one.from_epoch}"
    return "all epochs" if one.from_epoch == 1 else f"epochs {one.from_epoch} to {last}"


def data_section(training: Training) -> Section:
    """Return what it learnt from, and what of it could not be read."""
    data = training.data
    facts = [
        ("images", f"{clean(data.name, 120)} ({clean(data.kind, 40)})"),
        ("examples", f"{data.examples:,}"),
        ("identities", f"{data.identities:,}" if data.identities else "no labels: whose images they are is unknown"),
        ("held out", f"{data.held_out:,} images, which nothing was learnt from" if data.held_out else "none"),
        ("real faces", _REAL[data.contains_no_real_face_data]),
        ("sha256", data.sha256),
        *flat(data.details),
        ("could not be read", f"{training.skipped_count:,} ({100 * skipped_share(training):.2g} %)"),
    ]
    return Section("data", "The images", blocks=(Facts(facts), *_skipped(training)))


def _skipped(training: Training) -> Iterator[Table]:
    shown = training.skipped[:SKIPPED_SHOWN]
    if shown:
        caption = f"{len(shown)} of {training.skipped_count:,} images that could not be read"
        yield Table(caption, ("image", "why"), [(clean(one.name, 120), clean(one.why)) for one in shown], texts=2)
