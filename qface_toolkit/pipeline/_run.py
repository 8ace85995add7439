"""The steps of a job, from calibration images to the report: one that was stopped goes on where it was."""

import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from qface_toolkit.backends import BACKENDS, float_files
from qface_toolkit.evidence.collect import collect_evidence
from qface_toolkit.methods import METHODS, Context, Progress, apply_method
from qface_toolkit.pipeline._packed_size import check_sizes
from qface_toolkit.pipeline._refusals import Simulates
from qface_toolkit.pipeline._services import Services
from qface_toolkit.quantize.model import QuantizedModel, description, load_quantized, new_model, weights_bytes
from qface_toolkit.quantize.simulated import SimulatedModel, load_simulation, simulation_bytes
from qface_toolkit.quantize.target import ONNX
from qface_toolkit.report import Report, report_bytes
from qface_toolkit.report.schema import StepTime
from qface_toolkit.result.folder import OutputFolder
from qface_toolkit.result.golden import golden_vectors
from qface_toolkit.result.job import Job, Model, Tell
from qface_toolkit.result.names import DESCRIPTION, GOLDEN, REPORT, SHEET, WEIGHTS
from qface_toolkit.result.pages import report_pages
from qface_toolkit.sources import Crop, DrawnAhead, Manifest, contact_sheet, find_set, pixel_sha256

TRACE = "trace.json"
"""What a recipe that chooses among several runs leaves: each that it tried, and how near it came."""


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

    def quantized(self, crops: Crop) -> QuantizedModel:
        """Return the model after all steps of the recipe, and write it."""
        recipe = self.job.recipe
        original = new_model(self.job.canonical, self.job.model.spec, self.job.deployment)
        model = original.with_scheme(self.job.scheme)
        inputs = model.spec.preprocess(crops)
        target, batch = BACKENDS.get(recipe.backends[0]).target, recipe.calibration.batch_size
        services = Services(self.job, original, self.folder, self.step)
        for number, step in enumerate(self.job.steps):
            saved = f"work/step-{number}.safetensors", f"work/step-{number}.json"
            with self.step(f"{number + 1}. {step.method}") as progress:
                if progress is not None:
                    context = Context(inputs, target, self.job.seed, batch, progress, services.of(step))
                    model = apply_method(step.method, step.options, model, context)
                    self._save(model, *saved)
            if progress is None:
                model = load_quantized(self.folder.path(saved[1]), self.folder.path(saved[0]), between_steps=True)
        return model

    def simulated(self, crops: Crop) -> SimulatedModel:
        """Return the simulation that the recipe's only step makes, as its file holds it."""
        (step,), batch = self.job.steps, self.job.recipe.calibration.batch_size
        method, artifact = METHODS.get(step.method), BACKENDS.get(self.job.recipe.backends[0]).artifact
        assert isinstance(method, Simulates)
        with self.step(f"1. {step.method}") as progress:
            if progress is not None:
                inputs = self.job.model.spec.preprocess(crops)
                context = Context(inputs, ONNX, self.job.seed, batch, progress)
                model = method.simulate(self.job.model, step.options, context)
                self.folder.write(TRACE, (json.dumps([dict(one) for one in model.trace], indent=1) + "\n").encode())
                self.folder.write(artifact, simulation_bytes(model, self.job.facts()))
        return load_simulation(self.folder.path(artifact))

    def _save(self, model: QuantizedModel, weights: str, plain: str) -> None:
        self.folder.write(weights, weights_bytes(model))
        values = description(model) | {"facts": self.job.facts()}
        self.folder.write(plain, (json.dumps(values, separators=(",", ":")) + "\n").encode())

    def lowered(self, model: Model) -> None:
        """Write the float reference, its fast form and every artifact."""
        facts = self.job.facts()
        with self.step("export float.onnx") as progress:
            if progress is not None:
                if isinstance(model, QuantizedModel):
                    self._save(model, WEIGHTS, DESCRIPTION)
                for one in float_files():
                    self.folder.write(one.artifact, one.write(self.job.model, self.job.canonical, facts))
        if isinstance(model, SimulatedModel):
            return
        for name in self.job.recipe.backends:
            backend = BACKENDS.get(name)
            with self.step(f"lower to {backend.artifact}") as progress:
                if progress is not None:
                    self.folder.write(backend.artifact, backend.lower(model, facts))
        check_sizes(self.job, self.folder.path)

    def measured(self, model: Model, manifest: Manifest, drawn: DrawnAhead) -> Report:
        """Measure what was written and write the report."""
        with self.step("write golden vectors") as progress:
            if progress is not None:
                self.folder.write(GOLDEN, golden_vectors(self.job.model, model, self.job.recipe.backends))
        started = time.perf_counter()
        progress = self.tell("measure")
        crops = drawn.crops()
        report = collect_evidence(self.job, self.folder.path, model, manifest, self.seconds(), progress, crops)
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
