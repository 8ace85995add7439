"""What an evaluation comes to, in sentences that every first screen shares: the loss with its bound, or an alarm."""

from collections.abc import Mapping

from qface_toolkit.report.evaluation import Evaluation, Figure, ModelFigures, PairedFigures, PairListFigures
from qface_toolkit.report.figures import NOTHING, clean, cosine
from qface_toolkit.report.page import Said
from qface_toolkit.scoring.apart import FEW_GENUINE, error_rate_of, tells_apart

LONGEST_NAME = 34
MAIN_FAR = "1e-4"
UNEVEN = 1.25
"""How many times the average loss in cosine a group's may be before that is an alarm, for certain."""
PREPARATION = (
    "Check how images are prepared: mean, standard deviation and colour order (--set model.mean=, model.std=, "
    "model.color=) must be those of the training, and the crops must be aligned and framed as there (model.crop=)"
)


def evaluation_verdict(found: Evaluation) -> tuple[Said, ...]:
    """Return what matters most: an alarm if nothing is proven, or what is lost, with its bound."""
    alarm = float_alarm(found)
    if alarm is not None:
        return (alarm,)
    name, what = clean(found.model.name, LONGEST_NAME), data_said(found)
    if found.paired is None:
        alone = f"{name} was evaluated alone on {what}; with --reference FLOAT its losses are measured, with bounds."
        return (Said(alone), *_meaning(main_rate(found.figures)[0]))
    rate, lost = main_loss(found.paired)
    if lost is None:
        mean = found.paired.figures.get("cosine_mean")
        return (
            Said(f"{name} has a mean cosine of {cosine(mean.value if mean else None)} to its float model on {what}."),
        )
    if is_tied(found, rate):
        told = (
            f"{name} gives so many pairs on {what} the same score that {rate} says nothing: see the equal error rate."
        )
        return (Said(told, alarm=True),)
    wrong = _error(found.figures)[0]
    told = f"On {what}, {name} {loss_said(lost)} of {rate}{_reached(found, rate)}{bound_said(lost)}."
    return (
        Said(told, alarm=wrong is not None and not tells_apart(wrong, drawn=_is_drawn(found))),
        *_weak(found),
        *_worst_group(found),
        *_meaning(rate),
    )


def float_alarm(found: Evaluation) -> Said | None:
    """Return what must be said if the float model, or one that was evaluated alone, hardly tells people apart."""
    alone = found.reference_figures is None
    figures = found.reference_figures or found.figures
    wrong, how = _error(figures)
    if wrong is None or tells_apart(wrong, drawn=_is_drawn(found)):
        return None
    name = clean(found.model.name, LONGEST_NAME)
    who = name if alone else "The float model itself"
    genuine = _genuine(figures)
    few = (
        f" With only {genuine} same-person pairs this may be chance: evaluate more people."
        if genuine < FEW_GENUINE
        else ""
    )
    proves = "" if alone else f"; what {name} loses on these images therefore proves nothing"
    return Said(
        f"{who} does not tell {_people_said(found)} apart: {how}{proves}.{few} {PREPARATION}.",
        alarm=True,
    )


def _is_drawn(found: Evaluation) -> bool:
    return found.data.kind == "drawings"


def _people_said(found: Evaluation) -> str:
    return "these drawn identities" if _is_drawn(found) else "these people"


def _weak(found: Evaluation) -> tuple[Said, ...]:
    """Return what must be said of a model that knows drawings less well than a comparison would want."""
    wrong, how = _error(found.reference_figures or found.figures)
    if not _is_drawn(found) or wrong is None or tells_apart(wrong):
        return ()
    why = "as models of real faces often do; only real faces can show what is lost"
    return (Said(f"The float model tells these drawn identities apart badly itself ({how}), {why}."),)


def _genuine(figures: ModelFigures) -> int:
    if figures.every_pair is not None:
        return figures.every_pair.genuine
    if figures.pair_list is not None:
        return sum(figures.pair_list.histogram.genuine)
    return figures.templates.genuine if figures.templates else 0


def _error(figures: ModelFigures) -> tuple[float | None, str]:
    """Return the share of decisions that a model gets wrong at best, and how that is said."""
    if figures.every_pair is not None:
        eer = figures.every_pair.rates.eer
        said = "at the threshold where both kinds of mistakes are equally frequent it is wrong about"
        return eer, f"{said} {100 * eer:.1f} % of the pairs, and guessing is wrong about 50 %"
    if figures.pair_list is not None:
        right, guessed = figures.pair_list.pair_accuracy, _guessed(figures.pair_list)
        said = f"it decides {100 * right:.1f} % of the pairs correctly, and guessing {100 * guessed:.1f} %"
        # In a list with few pairs of one kind guessing is right more often: its error counts as 0.5 all the same.
        return min((1 - right) / (1 - guessed) / 2, 1.0) if guessed < 1 else None, said
    found = figures.templates
    if found is None or not found.tar_ijb:
        return None, ""
    # The highest rate has the most impostors, and says most about whether there is anything but chance.
    key = max(found.tar_ijb, key=float)
    tar, far = found.tar_ijb[key], found.fpr.get(key) or float(key)
    said = f"it accepts {100 * tar:.1f} % of the same-person pairs where it lets in {100 * far:.2g} % of the others"
    return error_rate_of(tar, far), f"{said}, and guessing accepts as many of both"


def _guessed(listed: PairListFigures) -> float:
    """Return the accuracy of calling every pair what most pairs are."""
    return max(sum(listed.histogram.genuine), sum(listed.histogram.impostor)) / listed.pairs if listed.pairs else 1.0


def main_rate(figures: ModelFigures) -> tuple[str, float | None]:
    """Return the figure that first screens show of one model: its name, and its value if there is one."""
    if figures.pair_list is not None:
        return "pair accuracy", figures.pair_list.pair_accuracy
    tar = figures.every_pair.rates.tar if figures.every_pair else figures.templates.tar_ijb if figures.templates else {}
    far = _main_far(tar)
    return f"TAR@{far}", tar.get(far)


def main_loss(paired: PairedFigures) -> tuple[str, Figure | None]:
    """Return what the verdict speaks of: TAR at 1e-4, or at the lowest rate there is, or the accuracy of pairs."""
    lost = {name.partition("@")[2]: one for name, one in paired.figures.items() if name.startswith("tar_lost@")}
    if lost:
        far = _main_far(lost)
        return f"TAR@{far}", lost[far]
    return "pair accuracy", paired.figures.get("pair_accuracy_lost")


def _main_far(known: Mapping[str, object]) -> str:
    return MAIN_FAR if MAIN_FAR in known else min(known, key=float, default="")


def is_tied(found: Evaluation, rate: str) -> bool:
    """Tell whether so many scores are equal that the rate flatters."""
    every = found.figures.every_pair
    return every is not None and rate.rpartition("@")[2] in every.rates.tied()


def loss_said(lost: Figure, unit: str = "percentage points") -> str:
    """Return by how much a model is worse or better, as a verb and its object."""
    gained = lost.value is not None and round(lost.value, 4) < 0
    return f"{'gains' if gained else 'loses'} {points(lost).lstrip('-')} {unit}"


def bound_said(lost: Figure) -> str:
    """Return what is known for certain of a loss, to be put behind it."""
    if lost.low is None or lost.high is None:
        return "; too few people for a bound"
    if lost.low == lost.high == 0:
        return "; no draw of these people shows a difference, so only a larger set could bound it"
    if lost.low > 0:
        return f", between {100 * lost.low:.2f} and {100 * lost.high:.2f} with 95 % confidence"
    if lost.high < 0:
        return "; with 95 % confidence it is better than the float model here"
    return f", at most {100 * lost.high:.2f} lost with 95 % confidence, and possibly nothing"


def rates(found: Evaluation, rate: str) -> tuple[float | None, float | None]:
    """Return what the float model and this one reach of a rate; where nothing was compared, this one alone."""
    if found.paired is None:
        return None, main_rate(found.figures)[1]
    name, _, far = rate.partition("@")
    key = f"tar@{far}" if far else name.replace(" ", "_")
    known = (found.paired.figures.get(f"float_{key}"), found.paired.figures.get(key))
    before, after = (None if one is None else one.value for one in known)
    return before, after


def _reached(found: Evaluation, rate: str) -> str:
    before, after = rates(found, rate)
    return "" if before is None or after is None else f" ({100 * before:.2f} % before, {100 * after:.2f} % now)"


def _worst_group(found: Evaluation) -> tuple[Said, ...]:
    """Return which group's embeddings change most, and which loses most of the rate: an average hides both.

    If some lose for certain too much more than the average, it is the one of which this is surest.
    """
    ratios = _known(found, "loss_ratio")
    if not ratios:
        return _worst_rate(found)
    harmed = {name: one for name, one in ratios.items() if (one.low or 0.0) > UNEVEN}
    most = max(ratios, key=lambda name: ratios[name].value or 0.0)
    name = max(harmed, key=lambda name: harmed[name].low or 0.0, default=most)
    worst = ratios[name]
    mean, person = (_value(found.groups[name].figures.get(key)) for key in ("cosine_mean", "cosine_worst_person"))
    times = f"{worst.value:.2f} times"
    bounds = "" if worst.low is None else f" (95 %: {worst.low:.2f} to {worst.high:.2f})"
    one = clean(name, LONGEST_NAME)
    which = f"Of {len(ratios)} groups of people, {one}" if len(ratios) > 1 else f"The group {one}"
    told = (
        f"{which} loses {'most: ' if name == most and len(ratios) > 1 else ''}{times} the average loss in "
        f"cosine{bounds}, a mean of {cosine(mean)} and {cosine(person)} for its worst person."
    )
    return (Said(told, alarm=bool(harmed)), *_worst_rate(found))


def knows_groups(found: Evaluation) -> bool:
    """Tell whether any group had people enough for what it loses in cosine."""
    return bool(_known(found, "loss_ratio"))


def _worst_rate(found: Evaluation) -> tuple[Said, ...]:
    keys = {key.partition("@")[2]: key for one in found.groups.values() for key in one.figures if "tar_lost@" in key}
    far = _main_far(keys)
    lost = _known(found, f"tar_lost@{far}")
    if not lost:
        return ()
    name, worst = max(lost.items(), key=lambda one: one[1].value or 0.0)
    one = clean(name, LONGEST_NAME)
    which = f"Of {len(lost)} groups of people, {one} fares worst: it" if len(lost) > 1 else f"The group {one}"
    return (Said(f"{which} {loss_said(worst)} of TAR@{far}{bound_said(worst)}."),)


def _known(found: Evaluation, figure: str) -> dict[str, Figure]:
    """Return a figure of each group that has it."""
    figures = {name: one.figures.get(figure) for name, one in found.groups.items()}
    return {name: one for name, one in figures.items() if one is not None and one.value is not None}


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value


def _meaning(rate: str) -> tuple[Said, ...]:
    name, _, far = rate.partition("@")
    if name != "TAR" or not far:
        return ()
    one_in = f"1 in {round(1 / float(far)):,}"
    return (
        Said(f"{rate}: the share of same-person pairs accepted while {one_in} pairs of different people is let in."),
    )


def data_said(found: Evaluation) -> str:
    """Return in a few words what it was evaluated on; drawings are called what they are."""
    data = found.data
    people = "" if data.people is None else f" of {data.people:,} people"
    if data.kind == "drawings":
        return f"{data.images:,} drawings{people.replace('people', 'drawn identities')} (no real faces)"
    pairs = "" if data.pairs is None else f", {data.pairs:,} pairs"
    return f"{clean(data.name, LONGEST_NAME)} ({data.images:,} images{people}{pairs})"


def points(one: Figure) -> str:
    """Return a difference of rates in percentage points, without its unit."""
    return NOTHING if one.value is None else f"{100 * one.value:.2f}".replace("-0.00", "0.00")


def interval(one: Figure, scale: float, digits: int) -> str:
    """Return the ends of a figure's interval in brackets, or nothing where there is none."""
    if one.low is None or one.high is None:
        return ""
    return f"({scale * one.low:.{digits}f} to {scale * one.high:.{digits}f})"
