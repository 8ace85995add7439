"""Compress a model: plan the job, do its steps in a folder of its own, and give that its name."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from qface_toolkit.environment import set_determinism
from qface_toolkit.evidence.collect import images_of
from qface_toolkit.models import FloatModel
from qface_toolkit.pipeline._planning import plan_job
from qface_toolkit.pipeline._run import Run
from qface_toolkit.report import Report
from qface_toolkit.result.folder import OutputFolder
from qface_toolkit.result.golden import HELD_OUT
from qface_toolkit.result.job import Job, Tell, silent
from qface_toolkit.sources import DrawnAhead


def compress(
    source: str | Path | nn.Module | FloatModel,
    *,
    out: str | Path,
    recipe: str = "int8",
    sets: Sequence[str] = (),
    name: str | None = None,
    backends: Sequence[str] = (),
    seed: int = 0,
    threads: int | None = None,
    force: bool = False,
    resume: bool = False,
    faces: str | Path | None = None,
    tell: Tell = silent,
) -> Report:
    """Compress a float face model to int8 and write everything about it to the folder `out`.

    `source` is a checkpoint's path, the word "demo", a network of any architecture, or a FloatModel. `sets` are
    KEY=VALUE strings as for `qface compress --set`, `name` is the architecture instead of recognising it, `threads`
    are torch's: other counts give other bytes, and by default there are as many as cores. `faces` is a folder of a few
    aligned crops, on which the preprocessing is checked and nothing else: they are never calibrated on.

    Raises:
        QFaceError: whatever the user can mend; `out` is then absent, or what it was before.
    """
    job = plan_job(
        source, recipe=recipe, sets=sets, name=name, backends=backends, seed=seed, threads=threads, faces=faces
    )
    return run_job(job, Path(out), force=force, resume=resume, tell=tell)


def run_job(job: Job, out: Path, *, force: bool = False, resume: bool = False, tell: Tell = silent) -> Report:
    """Do a planned job; see `compress`."""
    set_determinism(job.seed, job.threads)
    with OutputFolder(out, fingerprint=job.fingerprint, force=force, resume=resume) as folder, _held_out(job) as drawn:
        run = Run(job, folder, tell)
        crops, manifest = run.calibration_images()
        made = run.made(crops)
        run.lowered(made)
        report = run.measured(made, manifest, drawn)
        folder.finish(
            {
                "source": {"sha256": job.model.source_sha256, "name": job.model.spec.name},
                "recipe": job.recipe.as_plain(),
                "seed": job.seed,
                "threads": job.threads,
                "calibration": manifest.as_json(),
                "versions": report.environment.versions,
            }
        )
    return report


def _held_out(job: Job) -> DrawnAhead:
    """Begin to draw what the files will be measured on, if the job may use another core and times nothing before."""
    apart = job.threads > 1 and job.form_tables is not None
    return DrawnAhead(HELD_OUT, images_of(job), job.model.spec.frame, apart=apart)
