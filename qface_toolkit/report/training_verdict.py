"""What a training came to, in sentences and figures for every first screen: what was made, how good it is, what is odd.

Nothing is called good here: a held-out figure tells how well a student imitates its teacher on images of one set, and
what it is worth on faces is for an evaluation to tell.
"""

from collections.abc import Iterator

from qface_toolkit.report.figures import clean, cosine, duration, percent, threads, training_loss
from qface_toolkit.report.page import Bar, Card, Said, Sign
from qface_toolkit.report.training import EpochEnd, Training

LONGEST_NAME = 60
MOST_SKIPPED = 0.01
"""The share of the images that may be broken before a reader is warned."""
RATES_IN_CARD = 4
_REAL = {
    True: (True, "no real face is in the data that it learnt from"),
    False: (False, "it learnt from real faces: what is allowed with them holds for the student too"),
    None: (False, "nothing tells whether it learnt from real faces: the images are the user's own"),
}

_TELLING_STEPS = 100
"""Fewer steps say nothing of whether a loss falls."""


def kept_epoch(training: Training) -> EpochEnd | None:
    """Return the end of the epoch whose weights were kept, if an epoch ended at all."""
    return next((one for one in training.epochs if one.epoch == training.chosen_epoch), None)


def is_judged(end: EpochEnd | None) -> bool:
    """Tell whether there is a held-out figure of these weights."""
    if end is None:
        return False
    return bool(end.tar) or any(one is not None for one in (end.cosine_mean, end.pair_accuracy, end.eer))


def loss_span(training: Training) -> tuple[float, float] | None:
    """Return the first and the last loss, or None if only one is known.

    They are those since the last teacher came: before that, the loss had other parts.
    """
    since = max((one.from_epoch for one in training.teachers), default=1)
    found = [one.loss for one in training.epochs if one.epoch >= since]
    if len(found) < 2:
        found = [one.loss for one in training.points if one.epoch > since - 1]
    return (found[0], found[-1]) if len(found) > 1 else None


def skipped_share(training: Training) -> float:
    """Return the share of the images that could not be read."""
    return min(training.skipped_count / training.data.examples, 1.0)


def pace(training: Training) -> float | None:
    """Return the images a second, None where no time passed."""
    return training.images / training.seconds if training.seconds > 0 else None


def taught_by(training: Training) -> str:
    """Return the names of the teachers, or what is learnt from without any."""
    names = [clean(one.name, LONGEST_NAME) for one in training.teachers]
    if not names:
        return "labels alone"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def processes(training: Training) -> str:
    """Return how many processes trained, each on how many threads."""
    each = threads(training.environment.threads)
    return each if training.ranks == 1 else f"{training.ranks} processes with {each} each"


def resumptions(training: Training) -> str:
    """Return how often the training went on after it was stopped."""
    return {0: "never", 1: "once", 2: "twice"}.get(training.resumed, f"{training.resumed} times")


def training_verdict(training: Training) -> list[Said]:
    """Return what came out, then what must not be overlooked, then what could be better."""
    alarms = (Said(text, alarm=True) for text in _alarms(training))
    return [Said(_outcome(training)), *alarms, *map(Said, _hints(training))]


def training_signs(training: Training) -> list[Sign]:
    """Return what must be known of a student before it is used, fine or not; alarms stand in the verdict."""
    return [
        Sign(*_REAL[training.data.contains_no_real_face_data]),
        *_course_signs(training),
        *_image_signs(training),
        Sign(False, "not evaluated on the faces that it will meet: see qface evaluate"),
    ]


def training_cards(training: Training) -> list[Card]:
    """Return the student's size, its held-out figures, and what the training took."""
    judged = (_imitation_card(training), _pairs_card(training))
    return [_student_card(training), *(card for card in judged if card), _time_card(training)]


def _outcome(training: Training) -> str:
    student, end = training.student, kept_epoch(training)
    count = training.epochs[-1].epoch if training.epochs else 0
    long = _counted(count, "epoch") if count else _counted(training.steps, "step")
    made = f"{clean(student.name, LONGEST_NAME)} ({student.parameters:,} parameters)"
    kept = f" The weights of epoch {end.epoch} were kept." if end and end.epoch != count else ""
    return f"{made} learnt from {taught_by(training)} for {long}: {_reached(training, end)}.{kept}"


def _reached(training: Training, end: EpochEnd | None) -> str:
    if end is None or not is_judged(end):
        last = end.loss if end else training.points[-1].loss if training.points else None
        return "no epoch ended" if last is None else f"loss {training_loss(last)}, and no held-out figure"
    parts = [] if end.cosine_mean is None else [f"held-out cosine to the teacher {cosine(end.cosine_mean)}"]
    if end.pair_accuracy is not None:
        parts.append(f"{percent(end.pair_accuracy)} of held-out pairs judged right")
    elif end.eer is not None:
        parts.append(f"equal error rate {percent(end.eer)} on held-out pairs")
    elif end.tar:
        far, rate = next(iter(end.tar.items()))
        parts.append(f"TAR@{far} {percent(rate)} on held-out pairs")
    return ", ".join(parts)


def _alarms(training: Training) -> Iterator[str]:
    span = loss_span(training)
    if span is not None and span[1] >= span[0] and training.steps >= _TELLING_STEPS:
        what = f"from {training_loss(span[0])} to {training_loss(span[1])}"
        yield f"The loss did not fall: it went {what}. Check the learning rate and the images before you use this."
    if skipped_share(training) > MOST_SKIPPED:
        yield f"{_skipped(training)}: nothing was learnt from them. Check the folder of the images."
    if is_judged(kept_epoch(training)):
        return
    if training.data.held_out:
        yield "Nothing says how good this is: the weights that were kept were not judged on the held-out images."
    else:
        yield "Nothing says how good this is: no images were held out to judge it on."


def _hints(training: Training) -> Iterator[str]:
    end = training.epochs[-1] if training.epochs else None
    if end is not None and end.epoch == training.chosen_epoch and is_judged(end):
        which = "There was one epoch only" if len(training.epochs) == 1 else "The last epoch was the best one"
        yield f"{which}{_gained(training)}: it might still have been improving."


def _gained(training: Training) -> str:
    cosines = [one.cosine_mean for one in training.epochs[-2:]]
    if len(cosines) < 2 or cosines[0] is None or cosines[1] is None or cosines[1] <= cosines[0]:
        return ""
    return f" (its cosine is {cosines[1] - cosines[0]:.4f} above that of the epoch before)"


def _course_signs(training: Training) -> Iterator[Sign]:
    span, end = loss_span(training), kept_epoch(training)
    if span is not None and span[1] < span[0]:
        since = " since the last teacher came" if any(one.from_epoch > 1 for one in training.teachers) else ""
        yield Sign(True, f"the loss fell from {training_loss(span[0])} to {training_loss(span[1])}{since}")
    if end is not None and is_judged(end):
        judged = training.data.held_out
        images = f"{_counted(judged, 'image')} of the same set" if judged else "images"
        yield Sign(True, f"judged on {images} that it did not learn from")
        if end is not training.epochs[-1]:
            yield Sign(True, f"epoch {end.epoch} was the best one, and later ones brought nothing more")


def _image_signs(training: Training) -> Iterator[Sign]:
    if training.skipped_count == 0:
        yield Sign(True, "every image could be read")
    elif skipped_share(training) <= MOST_SKIPPED:
        yield Sign(False, _skipped(training))
    if not training.data.identities:
        yield Sign(False, "the images have no labels: how well it tells people apart was not measured")


def _skipped(training: Training) -> str:
    share = f"{100 * skipped_share(training):.2g} %"
    return f"{training.skipped_count:,} of {training.data.examples:,} images ({share}) could not be read"


def _student_card(training: Training) -> Card:
    student = training.student
    height, width = student.input_size
    said = f"parameters; {height}x{width} pixels in, {student.embedding_size} numbers out"
    return Card("Student", f"{student.parameters:,}", said, ())


def _imitation_card(training: Training) -> Card | None:
    end = kept_epoch(training)
    if end is None or end.cosine_mean is None:
        if is_judged(end):
            return None
        return Card("Held-out figures", "none", "nothing says how good it is", (), alarm=True)
    bars = [_cosine_bar(one, one is end) for one in _compared(training, end)]
    said = "held-out mean cosine between its embeddings and the teacher's; 1 is no difference"
    return Card("Imitation", cosine(end.cosine_mean), said, bars, "bars from 0 to 1")


def _compared(training: Training, kept: EpochEnd) -> list[EpochEnd]:
    """Return the first and the last epoch that have a cosine, and between them the one that was kept."""
    known = [one for one in training.epochs if one.cosine_mean is not None]
    return [one for one in known if one in (known[0], kept, known[-1])]


def _cosine_bar(end: EpochEnd, kept: bool) -> Bar:
    label = f"epoch {end.epoch} (kept)" if kept else f"epoch {end.epoch}"
    return Bar(label, cosine(end.cosine_mean), max(end.cosine_mean or 0.0, 0.0), "int8" if kept else "float")


def _pairs_card(training: Training) -> Card | None:
    end = kept_epoch(training)
    if end is None or not (end.tar or end.pair_accuracy is not None or end.eer is not None):
        return None
    bars = [Bar(f"TAR@{far}", percent(rate), rate, "int8") for far, rate in list(end.tar.items())[:RATES_IN_CARD]]
    said = "" if end.eer is None else f"equal error rate {percent(end.eer)}"
    if end.pair_accuracy is None:
        return Card("Telling people apart", said or "see TAR", "on held-out pairs", bars)
    said = f"of held-out pairs judged right{said and '; '}{said}"
    return Card("Telling people apart", percent(end.pair_accuracy), said, bars)


def _time_card(training: Training) -> Card:
    rate = pace(training)
    each = "" if rate is None else f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.2g} images/s"
    where = f"on {processes(training)}{training.device and ', '}{clean(training.device, LONGEST_NAME)}"
    said = f"{each or 'not timed'}: {training.images:,} images in {_counted(training.steps, 'step')} {where}"
    resumed = f"; resumed {resumptions(training)}" if training.resumed else ""
    scale = f"at most {training.peak_memory_bytes / 2**20:,.0f} MiB of memory{resumed}"
    return Card("Time", duration(training.seconds), said, (), scale)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
