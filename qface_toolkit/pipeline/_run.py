"""The steps of a job, from calibration images to the report: one that was stopped goes on where it was."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from qface_toolkit.backends import BACKENDS, float_files
from qface_toolkit.canonical.edit import ensure_shapes
from qface_toolkit.evidence.collect import collect_evidence
from qface_toolkit.methods import Context, Progress, apply_method, gives
from qface_toolkit.pipeline._packed_size import check_sizes
from qface_toolkit.pipeline._services import Services
from qface_toolkit.pipeline._times import form_tables
from qface_toolkit.quantize.forms import FormTables, operator_table
from qface_toolkit.quantize.groups import choose_groups
from qface_toolkit.quantize.model import QuantizedModel, new_model
from qface_toolkit.report import Report, report_bytes
from qface_toolkit.report.schema import StepTime
from qface_toolkit.result.folder import OutputFolder
from qface_toolkit.result.golden import golden_vectors, verifier_source
from qface_toolkit.result.job import Job, Tell
from qface_toolkit.result.lowered import Lowered
from qface_toolkit.result.made import Files, Made
from qface_toolkit.result.names import GOLDEN, REPORT, SHEET, VERIFIER
from qface_toolkit.result.pages import report_pages
from qface_toolkit.result.simulated import Simulated
from qface_toolkit.sources import Crop, DrawnAhead, Manifest, contact_sheet, find_set, pixel_sha256
from qface_toolkit.untrusted.limits import give_back_memory

LOOKED_AT = 2048
"""Images, the first ones, that are prepared for all steps at once; whoever trains on more prepares them as it goes."""


class Run:
    """The steps of a job, each done once: what a stopped job has finished is read back when it is resumed."""

    def __init__(self, job: Job, folder: OutputFolder, tell: Tell) -> None:
        self.job, self.folder, self.tell = job, folder, tell
        self.names: list[str] = []

    @contextmanager
    def step(self, name: str) -> Iterator[Progress | None]:
        """Enter a step: None if it was done before, else what to call as it goes; it is marked when the block ends."""
        self.names.append(name)
        if self.folder.done(name):
            yield None
            return
        started = time.perf_counter()
        notes: dict[str, Any] = {}
        yield self.tell(name)
        give_back_memory()
        notes["seconds"] = time.perf_counter() - started
        self.folder.mark(name, notes)

    def seconds(self) -> dict[str, float]:
        """Return the wall time of each step so far."""
        return {name: float(self.folder.notes(name)["seconds"]) for name in self.names if self.folder.done(name)}

    def calibration_images(self) -> tuple[Crop, Manifest]:
        """Return the calibration crops and what they are."""
        wanted = self.job.recipe.calibration
        named = find_set(wanted.set).with_(wanted.count, self.job.seed)
        with self.step("draw calibration images") as progress:
            if progress is not None:
                images = named.open(model=self.job.model)
                crops = np.stack([_counted(images.crop(i), progress, i, len(images)) for i in range(len(images))])
                self.folder.write("work/crops.npy", _npy(crops))
                self.folder.write(SHEET, _png(contact_sheet(crops[:64])))
        if progress is None:
            crops = np.load(io.BytesIO(self.folder.path("work/crops.npy").read_bytes()), allow_pickle=False)
        return crops, named.manifest(pixel_sha256(crops), self.job.model)

    def made(self, crops: Crop) -> Made:
        """Return what all steps of the recipe make, each of which is kept."""
        recipe, facts = self.job.recipe, self.job.facts()
        tables = form_tables(self.job, self.folder, self.step)
        original = self._original(tables)
        made: Made = Lowered(original.with_scheme(self.job.scheme), facts)
        inputs, batch = self.job.model.spec.preprocess(crops[:LOOKED_AT]), recipe.calibration.batch_size
        target = BACKENDS.get(recipe.backends[0]).target
        services = Services(self.job, original, self.folder, tables, crops)
        for number, step in enumerate(self.job.steps):
            kind: type[Made] = Simulated if gives(step, "simulation") else Lowered
            with self.step(f"{number + 1}. {step.method}") as progress:
                if progress is not None:
                    context = Context(inputs, target, self.job.seed, batch, progress, services.of(step, number))
                    made = kind.of(apply_method(step.method, step.options, made.model, context), facts)
                    self._write(made.step_files(number))
            if progress is None:
                made = kind.read(number, self.folder.path, facts)
        return made

    def _original(self, tables: FormTables) -> QuantizedModel:
        """Return the model before any step, its convolutions of groups in their fastest forms."""
        canonical, spec = self.job.canonical, self.job.model.spec
        ensure_shapes(canonical, spec.input_size, spec.channels)
        model = new_model(canonical, spec, self.job.deployment)
        return model.with_groups(choose_groups(canonical, operator_table(tables), self.job.deployment))

    def _write(self, files: Files) -> None:
        for name, content in files.items():
            self.folder.write(name, content)

    def lowered(self, made: Made) -> None:
        """Write the float reference, its fast form and every artifact."""
        with self.step("export float.onnx") as progress:
            if progress is not None:
                self._write(made.source_files())
                for one in float_files():
                    self.folder.write(one.artifact, one.write(self.job.model, self.job.canonical, self.job.facts()))
        for artifact, written in made.artifacts(self.job.recipe.backends):
            with self.step(f"lower to {artifact}") as progress:
                if progress is not None:
                    self.folder.write(artifact, written())
        check_sizes(self.job, self.folder.path)

    def measured(self, made: Made, manifest: Manifest, drawn: DrawnAhead) -> Report:
        """Measure what was written and write the report."""
        with self.step("write golden vectors") as progress:
            if progress is not None:
                self.folder.write(GOLDEN, golden_vectors(self.job.model, made, self.job.recipe.backends))
                self.folder.write(VERIFIER, verifier_source())
        started = time.perf_counter()
        progress = self.tell("measure")
        crops = drawn.crops()
        report = collect_evidence(self.job, self.folder.path, made, manifest, self.seconds(), progress, crops)
        steps = (*report.steps, StepTime(name="measure", seconds=time.perf_counter() - started))
        report = report.model_copy(update={"steps": steps})
        self.folder.write(REPORT, report_bytes(report))
        for name, page in report_pages(report, self.folder.path(SHEET).read_bytes()).items():
            self.folder.write(name, page)
        return report


def _counted(crop: Crop, progress: Progress, index: int, count: int) -> Crop:
    progress(index + 1, count)
    return crop


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _npy(array: Crop) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
