"""Train a student from teachers, labels or both: plan, open the images, learn, and write what came out.

Every process that torchrun started runs this; rank 0 has the folder and writes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from qface_toolkit.datasets import FaceData, Opening, hold_out, open_data
from qface_toolkit.environment import set_determinism
from qface_toolkit.errors import TrainingError
from qface_toolkit.models import ROUNDED_FILE, STUDENT_FILE, FloatModel, student_bytes
from qface_toolkit.pipeline._course import check_patience, make_course
from qface_toolkit.pipeline._rounded import Rounded, rounded
from qface_toolkit.pipeline._teachers import GivenTeacher
from qface_toolkit.pipeline._training_folder import STATE, TrainingFolder
from qface_toolkit.pipeline._training_plan import TrainingPlan, code_sha256, plan_training
from qface_toolkit.pipeline._training_report import Learnt, origin_of, told, training_pages
from qface_toolkit.ranks import Ranks, joined_ranks
from qface_toolkit.report import Training
from qface_toolkit.result.folder import WORK, OutputFolder
from qface_toolkit.result.job import Tell, silent
from qface_toolkit.training.held_out import HeldOut, read_held_out

_DRAWN = "draw"
_DRAWN_KIND = "drawn"
_HELD_SHARE, _MOST_HELD = 20, 256
"""Where it is not said, one in so many identities or images is held out, and no more than this."""


def train(
    student: str | Path | FloatModel,
    *,
    teachers: Sequence[GivenTeacher] = (),
    data: str | Path,
    out: str | Path,
    recipe: str = "kd",
    sets: Sequence[str] = (),
    seed: int = 0,
    threads: int | None = None,
    force: bool = False,
    resume: bool = False,
    tell: Tell = silent,
) -> Training:
    """Train a student and write it, with everything about the training, to the folder `out`.

    `student` is an architecture's name, a genotype's YAML file, a checkpoint to go on from, or a FloatModel. `teachers`
    are checkpoints, or patterns of snapshots. `data` is a set's name or YAML, a folder of crops or of one folder an
    identity, a .rec file, or a pattern of tar shards. `recipe` is a training recipe's name or file, `sets` change it.
    Under torchrun every process calls this with the same arguments.

    Raises:
        QFaceError: whatever the user can mend; `out` is then absent, or what it was before.
    """
    plan = plan_training(student, teachers=teachers, data=data, recipe=recipe, sets=sets, seed=seed, threads=threads)
    return run_training(plan, Path(out), force=force, resume=resume, tell=tell)


def run_training(
    plan: TrainingPlan, out: Path, *, force: bool = False, resume: bool = False, tell: Tell = silent
) -> Training:
    """Do a planned training; see `train`."""
    with joined_ranks("cuda" if plan.device.type == "cuda" else "cpu") as ranks:
        ranks.check_same("installation of qface_toolkit", code_sha256(), plan.device.type)
        ranks.check_same("job", plan.fingerprint(ranks.size), plan.device.type)
        set_determinism(plan.seed, plan.threads)
        with _folder(plan, out, ranks, force=force, resume=resume) as (partial, folder):
            return _Run(plan, ranks, partial, folder, tell if ranks.leads else silent).done()


@contextmanager
def _folder(
    plan: TrainingPlan, out: Path, ranks: Ranks, *, force: bool, resume: bool
) -> Iterator[tuple[Path, OutputFolder | None]]:
    """Give the folder that the work is done in, and on rank 0 what writes there."""
    if not ranks.leads:
        ranks.wait()
        yield out.with_name(f"{out.name}.partial"), None
        return
    # A process that torchrun starts again after one died is to go on, whatever it was told at first.
    again = resume or ranks.restarts > 0
    own = plan.fingerprint(ranks.size)
    with OutputFolder(out, fingerprint=own, force=force, resume=again, vital=STATE) as folder:
        ranks.wait()
        yield folder.partial, folder


@dataclass
class _Run:
    """A training under way, on one rank."""

    plan: TrainingPlan
    ranks: Ranks
    partial: Path
    folder: OutputFolder | None
    tell: Tell

    def done(self) -> Training:
        """Learn, and write what came out; return the report."""
        learnt_from, held_out = self._images()
        plan, learnt_through = self.plan, self._rounded()
        keeper = TrainingFolder(
            self.partial,
            self.folder,
            self.ranks,
            plan.student,
            images_sha256=learnt_from.fingerprint(),
            snapshots=plan.recipe.snapshots,
        )
        student = plan.student if learnt_through is None else replace(plan.student, network=learnt_through.network)
        planned = replace(plan, student=student)
        course = make_course(planned, learnt_from, held_out, self.ranks, keeper, self.tell("learn"))
        why = course.run()
        course.pupil.alone().cpu()
        if learnt_through is None:
            written = STUDENT_FILE, student_bytes(student, origin_of(plan))
        else:
            written = ROUNDED_FILE, learnt_through.onnx(origin_of(plan))
        learnt = Learnt(course, learnt_from, held_out, why, *written)
        report = told(plan, self.ranks, learnt)
        if self.folder is not None:
            self._finish(self.folder, learnt, report)
        self.ranks.wait()
        return report

    def _rounded(self) -> Rounded | None:
        """Return the student as int8 will compute it, if it is to learn so."""
        quantize, plan = self.plan.recipe.quantize, self.plan
        if quantize is None:
            return None
        self.tell("set the ranges that the student learns with")
        return rounded(plan.student, quantize.recipe, seed=plan.seed, threads=plan.threads)

    def _finish(self, folder: OutputFolder, learnt: Learnt, report: Training) -> None:
        self.tell("write the student and its report")
        folder.write(learnt.name, learnt.weights)
        for name, page in training_pages(report).items():
            folder.write(name, page)
        folder.mark("written")
        folder.finish({"seed": self.plan.seed, "threads": self.plan.threads, "versions": report.environment.versions})

    def _images(self) -> tuple[FaceData, HeldOut | None]:
        """Return the images to learn from, and on rank 0 those that are held out."""
        data = self._opened()
        self.ranks.check_same("images", data.fingerprint(), self.plan.device.type)
        wanted = self.plan.recipe.data.held_out
        if wanted is None:
            wanted = min(_MOST_HELD, (data.identities or len(data)) // _HELD_SHARE)
        if not wanted:
            check_patience(self.plan, None)
            return data, None
        train, held = hold_out(data, count=wanted, identities=wanted, seed=self.plan.seed)
        check_patience(self.plan, held)
        return train, read_held_out(held) if self.ranks.leads else None

    def _opened(self) -> FaceData:
        """Return the data; what has to be drawn is drawn once, by rank 0, and kept for a resumed run."""
        if not self.ranks.leads:
            self.ranks.wait()
        progress = self.tell("open the images")
        options, teachers = self.plan.recipe.data, self.plan.teachers
        opening = Opening(
            count=options.count,
            seed=options.seed,
            images_per_identity=options.images_per_identity,
            cache=options.cache or self.partial / WORK,
            threads=self.plan.threads,
            model=teachers[0].open() if teachers else None,
            progress=progress,
        )
        data = open_data(self.plan.data, opening)
        if data.kind != _DRAWN_KIND and (options.count or options.seed is not None or options.images_per_identity):
            what = "data.count, data.seed and data.images_per_identity are for sets that are drawn"
            raise TrainingError(what, where=self.plan.data, fix="leave them out, or give a smaller set of images")
        if self.folder is not None:
            self._keep_drawn(self.folder)
            self.ranks.wait()
        return data

    def _keep_drawn(self, folder: OutputFolder) -> None:
        """Note what was drawn, so that a resumed run finds it."""
        drawn = sorted((self.partial / WORK).glob("*.npy"))
        if drawn and not folder.done(_DRAWN):
            for file in drawn:
                folder.adopt(f"{WORK}{file.name}")
            folder.mark(_DRAWN)
