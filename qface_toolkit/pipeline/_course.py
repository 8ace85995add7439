"""Put a planned training together: the pupil, its teachers, the images and the loop, on one rank."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from qface_toolkit.datasets import FaceData
from qface_toolkit.errors import TrainingError
from qface_toolkit.pipeline._training_plan import TrainingPlan
from qface_toolkit.ranks import Ranks
from qface_toolkit.training.centres import Centres
from qface_toolkit.training.course import Course, Keeper
from qface_toolkit.training.features import map_channels
from qface_toolkit.training.feed import Feed
from qface_toolkit.training.held_out import HeldOut, tells_apart
from qface_toolkit.training.lesson import Lesson, Place, Teacher
from qface_toolkit.training.norms import over_ranks
from qface_toolkit.training.pupil import Pupil, Sizes, quicken


def make_course(
    plan: TrainingPlan,
    data: FaceData,
    held_out: HeldOut | None,
    ranks: Ranks,
    keeper: Keeper,
    progress: Callable[[int, int], None],
) -> Course:
    """Return a training that is ready to run, or to go on from what `keeper` has; the student's network is trained.

    Raises:
        TrainingError: if there is nothing to learn from, or the recipe does not fit the images.
    """
    recipe, losses = plan.recipe, plan.recipe.loss
    labelled = bool(data.identities and losses.classes)
    _check(plan, data, ranks, labelled=labelled)
    place = Place(plan.device, recipe.precision == "bfloat16", recipe.channels_last)
    traits = data.traits() if losses.traits else None
    pupil = _pupil(plan, _sizes(plan, 0 if traits is None else traits.shape[1]), ranks, place)
    size = plan.student.spec.embedding_size
    centres = Centres(size, data.identities, ranks, margin=losses.margin, seed=plan.seed) if labelled else None
    feed = Feed(
        data,
        recipe.augment,
        batch_size=recipe.batch_size,
        seed=plan.seed,
        ranks=ranks,
        workers=recipe.data.workers,
    )
    lesson = Lesson(
        recipe=recipe,
        model=_wrapped(pupil, plan, ranks),
        spec=plan.student.spec,
        place=place,
        ranks=ranks,
        teacher=_teacher(plan, place),
        centres=None if centres is None else centres.to(plan.device),
        traits=traits,
        seed=plan.seed,
    )
    return Course(recipe, feed, lesson, pupil, plan.beginnings, held_out, ranks, keeper, progress)


def check_patience(plan: TrainingPlan, held_out: FaceData | None) -> None:
    """Refuse to wait for a better epoch where nothing says which one is.

    Raises:
        TrainingError: if no image is held out, or there is no teacher of the student's size and no pair to judge.
    """
    if plan.recipe.patience is None:
        return
    sizes = {teacher.spec.embedding_size for teacher in plan.teachers}
    if held_out is None:
        what, fix = "no image is held out, so that no epoch is known to be better", "--set data.held_out=N"
    elif plan.student.spec.embedding_size not in sizes and not tells_apart(held_out):
        what = "nothing says which epoch is better: no teacher's embedding has the student's size, and no pair is known"
        fix = "hold out people with two images each, or --set patience=null"
    else:
        return
    raise TrainingError(what, where="patience", fix=fix)


def _teacher(plan: TrainingPlan, place: Place) -> Teacher | None:
    if not plan.teachers:
        return None
    return Teacher(lambda number: plan.teachers[number].open(), place, maps=plan.recipe.loss.features > 0)


def _sizes(plan: TrainingPlan, traits: int) -> Sizes:
    """Return the sizes of what a student says while it learns.

    Raises:
        TrainingError: if feature maps are to be compared, and a network has none or teachers have others.
    """
    sizes = Sizes(plan.student.spec.embedding_size, plan.shown, traits)
    if not plan.recipe.loss.features or not plan.teachers:
        return sizes
    own = map_channels(copy.deepcopy(plan.student.network), plan.student.spec.input_shape)
    shown = {map_channels(one.open().network, one.spec.input_shape) for one in plan.teachers}
    if not own or not all(shown):
        what = "a network has no feature map of more than one pixel to compare"
        raise TrainingError(what, where=plan.teachers[0].name, fix="--set loss.features=0")
    if len(shown) > 1:
        what = f"the teachers' last feature maps have {' and '.join(map(str, sorted(shown)))} channels"
        raise TrainingError(what, fix="--set loss.features=0, or give snapshots of one network")
    return replace(sizes, own_map=own, shown_map=shown.pop())


def _pupil(plan: TrainingPlan, sizes: Sizes, ranks: Ranks, place: Place) -> Pupil:
    """Return the student's own network, not a copy of it, made quick and put where it will learn."""
    pupil = Pupil(plan.student.network, sizes, plan.seed)
    quicken(pupil)
    over_ranks(pupil, ranks)
    place.send(pupil.train())
    return pupil


def _wrapped(pupil: Pupil, plan: TrainingPlan, ranks: Ranks) -> nn.Module:
    """Return what computes as the pupil does: compiled where that is wanted, with gradients averaged over ranks."""
    if plan.recipe.compile:
        pupil.network.compile()
    if ranks.size == 1:
        return pupil
    # Its notices are of how torch spells an option, and of strides that two layouts of the same numbers differ in.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
    warnings.filterwarnings("ignore", ".broadcast_buffers. is deprecated", FutureWarning)
    return nn.parallel.DistributedDataParallel(pupil, broadcast_buffers=False)


def _check(plan: TrainingPlan, data: FaceData, ranks: Ranks, *, labelled: bool) -> None:
    losses = plan.recipe.loss
    taught = plan.teachers and (losses.kd or losses.relation)
    if not taught and not labelled:
        why = "loss.kd and loss.relation are 0" if plan.teachers else "no teacher is given"
        why += ", and loss.classes is 0" if data.identities else ", and nothing says who is on an image"
        fix = "give --teacher, or images with labels: one folder an identity, a .rec file, shards with .cls files"
        raise TrainingError(f"there is nothing to learn from: {why}", where=data.name, fix=fix)
    if labelled and data.identities < max(2, ranks.size):
        what = f"there are {data.identities} identities to tell apart, spread over {ranks.size} processes"
        raise TrainingError(what, where=data.name, fix="give more identities, or --set loss.classes=0")
    if losses.traits and data.traits() is None:
        what = "nothing is known of how the people on these images look"
        raise TrainingError(what, where="loss.traits", fix="--set loss.traits=0, or give people who are drawn")
    if labelled and plan.recipe.augment.mix:
        what = "images into which others are blended belong to no identity"
        fix = "--set loss.classes=0 to learn from the teacher alone, or --set augment.mix=0"
        raise TrainingError(what, where="augment.mix", fix=fix)
