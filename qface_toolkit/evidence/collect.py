"""Measure what a job wrote, each figure against the float model and on drawings that calibration never saw."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qface_toolkit.backends import BACKENDS, Backend, Embed, FloatFile, Runner, float_files, foreign, inspect_here
from qface_toolkit.environment import machine_here, record_environment
from qface_toolkit.evidence.allocation import allocation_block
from qface_toolkit.evidence.counted_sizes import counted_sizes
from qface_toolkit.evidence.described import recipe_used, source_of
from qface_toolkit.evidence.embedding import embed_crops, embed_file
from qface_toolkit.evidence.kept import Bench, budget_block
from qface_toolkit.evidence.layers import cost_of
from qface_toolkit.evidence.load import loads
from qface_toolkit.evidence.parity import LAYER_IMAGES, parity_ledger
from qface_toolkit.evidence.pruning import pruning_block
from qface_toolkit.evidence.sensitivity import job_sensitivity
from qface_toolkit.evidence.sizes import weigh
from qface_toolkit.evidence.skin import tone_losses
from qface_toolkit.evidence.speed import float_names, speeds, take_turns
from qface_toolkit.methods import Progress
from qface_toolkit.quantize.forms import operator_table, read_form_tables
from qface_toolkit.quantize.model import embed
from qface_toolkit.quantize.target import Target
from qface_toolkit.report import Report
from qface_toolkit.report.cost import Beside
from qface_toolkit.report.inspection import fusion_figures
from qface_toolkit.report.parity import SIMULATED, at_home_name
from qface_toolkit.report.schema import (
    AgreementFigures,
    ArtifactFigures,
    BudgetBlock,
    CalibrationUsed,
    CostFigures,
    LatencyFigures,
    ParityBlock,
    SensitivityBlock,
    StepTime,
    VerificationBlock,
    VerificationFigures,
)
from qface_toolkit.result.golden import HELD_OUT, golden_of, read_golden
from qface_toolkit.result.job import Job
from qface_toolkit.result.made import Made
from qface_toolkit.result.manifest import record_of
from qface_toolkit.result.names import GOLDEN, TIMES
from qface_toolkit.runtimes import FLOAT_ARTIFACT
from qface_toolkit.runtimes.fusion import Fusion
from qface_toolkit.runtimes.latency import Latency
from qface_toolkit.scoring.agreement import measure_agreement, row_cosines
from qface_toolkit.scoring.identities import verify_identities
from qface_toolkit.sources import Crop, Manifest, find_set
from qface_toolkit.untrusted.limits import give_back_memory, peak_memory_bytes

AGREEMENT_IMAGES = 256
FEWER_IMAGES = 64
"""Of float files, whose agreement is a proof and no estimate, and of files for another kind of machine, which take ten
times as long on this one; 32 of them show that these compute what they should."""
SIMULATION_IMAGES = 32


def images_of(job: Job) -> int:
    """Return how many held-out drawings a job's files are measured on."""
    return find_set(HELD_OUT).count if job.verify else AGREEMENT_IMAGES


def collect_evidence(
    job: Job,
    path: Callable[[str], Path],
    made: Made,
    manifest: Manifest,
    seconds: Mapping[str, float],
    progress: Progress,
    crops: Crop,
) -> Report:
    """Return the report of a job whose artifacts are written.

    `path` tells where each stands; `crops` are `images_of(job)` held-out drawings.
    """
    files = _Files(job, path, made, crops)
    latencies = take_turns(job, path, files.crops[:1])
    progress(1, 5)
    give_back_memory()
    floats = [_then_free(files.float_file(one, latencies)) for one in float_files()]
    artifacts = (*floats, *(_then_free(files.artifact(name, latencies)) for name in job.recipe.backends))
    progress(2, 5)
    parity = files.parity()
    progress(3, 5)
    sensitivity = files.sensitivity()
    progress(4, 5)
    budget = files.budget()
    verification = files.verification() if job.verify else None
    progress(5, 5)
    return Report(
        source=source_of(job.model),
        recipe=recipe_used(job, made),
        seed=job.seed,
        environment=record_environment(job.seed, job.threads),
        calibration=CalibrationUsed(set=job.recipe.calibration.set, **manifest.as_json()),
        float_latency={
            runtime: LatencyFigures.of(latencies[name], threads=1, batch=1)
            for runtime, name in float_names(job).items()
            if name in latencies
        },
        artifacts=artifacts,
        verification=verification,
        parity=parity,
        sensitivity=sensitivity,
        budget=budget,
        allocation=allocation_block(job, path),
        pruning=pruning_block(path),
        steps=tuple(StepTime(name=name, seconds=value) for name, value in seconds.items()),
        peak_memory_bytes=peak_memory_bytes(),
        commands=(job.command,) if job.command else (),
    )


class _Files:
    """The float model and its artifacts, opened for running, and the images to run them on."""

    def __init__(self, job: Job, path: Callable[[str], Path], made: Made, crops: Crop) -> None:
        self.job, self.path, self.made, self.crops = job, path, made, crops
        self.float_embeddings = embed_crops(self._float_network, job.model.spec, self.crops)
        self.members = {"float": self.float_embeddings[:SIMULATION_IMAGES]}
        self.embeddings: dict[str, npt.NDArray[np.float32]] = {}
        self.golden = read_golden(path(GOLDEN))
        self.loads = loads(path, job.recipe.backends)
        self.float_us: Mapping[str, float] = {}
        tables = job.form_tables or read_form_tables(path(TIMES))
        self.times = operator_table(tables)

    def _float_network(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return embed(self.job.model.network, inputs)

    def embedded(self, run: Embed) -> npt.NDArray[np.float32]:
        """Return a model's embeddings of the crops that files are compared on."""
        return embed_crops(run, self.job.model.spec, self.crops[:AGREEMENT_IMAGES])

    def _of_file(self, file: Path, runner: Runner) -> npt.NDArray[np.float32]:
        crops = self.crops[: self._count(runner)]
        return embed_file(file, runner, self.job.model.spec, crops, self.job.threads)

    def _count(self, runner: Runner) -> int:
        """Return how many crops a backend's artifact, or a float file, is run on."""
        if not isinstance(runner, Backend):
            return FEWER_IMAGES
        elsewhere = foreign(runner) is not None and not runner.runtime.simulates
        return FEWER_IMAGES if elsewhere and not self.job.verify else len(self.crops)

    def artifact(self, name: str, latencies: Mapping[str, Latency]) -> ArtifactFigures:
        """Return the figures of a backend's artifact."""
        backend = BACKENDS.get(name)
        file, latency = self.path(backend.artifact), latencies.get(backend.artifact)
        predicted = self.made.predicted(backend, self.times) if latency else None
        embeddings, fusion = self._of_file(file, backend), inspect_here(backend, file)
        self.embeddings[backend.artifact] = embeddings
        return ArtifactFigures(
            name=backend.artifact,
            backend=name,
            runtime=backend.runtime.name,
            engine=backend.engine,
            quantized=True,
            **self._sizes(file, backend),
            **self.loads[backend.artifact],
            sha256=record_of(file).sha256,
            latency=LatencyFigures.of(latency, threads=1, batch=1) if latency else None,
            latency_missing=None if latency else foreign(backend),
            predicted_ms=_whole_ms(predicted),
            **speeds(backend.runtime, latency, latencies),
            agreement=self._agreement(embeddings),
            simulation_agreement=self._simulation_agreement(backend, embeddings),
            **({} if backend.runtime.simulates else fusion_figures(fusion)),
            cost=self._cost(backend, file, fusion, predicted, timed=latency is not None),
        )

    def float_file(self, one: FloatFile, latencies: Mapping[str, Latency]) -> ArtifactFigures:
        """Return the figures of a float file."""
        file, latency, job = self.path(one.artifact), latencies[one.artifact], self.job
        embeddings, names = self._of_file(file, one), one.layer_names(job.canonical)
        predicted = one.predict(job.canonical, job.model.spec, self.times)
        cost = cost_of(file, one.inspect(file), names, beside=Beside(predicted or {}))
        if names is not None:
            self.float_us = {layer.name: 1000 * (layer.time_ms or 0.0) for layer in cost.layers}
        self.members[one.artifact] = embeddings[:SIMULATION_IMAGES]
        return ArtifactFigures(
            name=one.artifact,
            backend="onnx-float",
            runtime=one.runtime.name,
            quantized=False,
            **self._sizes(file),
            **self.loads[one.artifact],
            sha256=record_of(file).sha256,
            latency=LatencyFigures.of(latency, threads=1, batch=1),
            predicted_ms=_whole_ms(predicted),
            **speeds(one.runtime, latency, latencies),
            agreement=self._agreement(embeddings),
            cost=cost,
        )

    def _agreement(self, embeddings: npt.NDArray[np.float32]) -> AgreementFigures:
        what = f"with the float network in torch, on {HELD_OUT}"
        compared = embeddings[:AGREEMENT_IMAGES]
        return _agreement(self.float_embeddings[: len(compared)], compared, what, drawn_tones=True)

    def _sizes(self, file: Path, backend: Backend | None = None) -> dict[str, Any]:
        """Return the bytes of a file, and what its numbers would take at their width."""
        target, simulated = (backend.target, backend.runtime.simulates) if backend else (None, False)
        weighed = weigh(file, self.path(FLOAT_ARTIFACT))
        return weighed | counted_sizes(self.made, target, simulated=simulated)

    def _cost(
        self, backend: Backend, file: Path, fusion: Fusion, predicted: Mapping[str, float] | None, *, timed: bool
    ) -> CostFigures | None:
        names = self.made.layer_names(backend)
        beside = Beside(predicted or {}, self.float_us if backend.runtime.fast_name else {})
        return None if names is None else cost_of(file, fusion, names, timed=timed, beside=beside)

    def _simulation_agreement(self, backend: Backend, embeddings: npt.NDArray[np.float32]) -> AgreementFigures | None:
        name, target, got = backend.artifact, backend.target, embeddings[:SIMULATION_IMAGES]
        at_home, here = self._simulated(target, name), target.on(machine_here())
        simulated = at_home if here.arithmetic == target.arithmetic else self._simulated(here, name)
        if simulated is not None:
            self.members[name + SIMULATED] = simulated
        self.members[name] = got
        if at_home is not None and simulated is not at_home:
            self.members[at_home_name(name, target.machine)] = at_home
        what = f"with its own simulation ({target.name}), on {HELD_OUT}"
        return None if simulated is None else _agreement(simulated, got, what)

    def _simulated(self, target: Target, name: str) -> npt.NDArray[np.float32] | None:
        """Return a simulation's embeddings, the first of which golden vectors hold: they are those of the drawings."""
        known = self.golden[name] if target.runs_on is None else golden_of(self.golden, name)
        inputs = self.job.model.spec.preprocess(self.crops[len(known) : SIMULATION_IMAGES])
        others = self.made.simulated(target, inputs)
        return None if others is None else np.concatenate([known, others])

    def sensitivity(self) -> SensitivityBlock | None:
        """Return where the loss is, for a model whose tensors can be switched one by one."""
        return job_sensitivity(self.made, BACKENDS.get(self.job.recipe.backends[0]).target, self.crops)

    def budget(self) -> BudgetBlock | None:
        """Return what the points between int8 and the artifact cost, if there is a budget."""
        return budget_block(self.job, self.made, self._of_budget())

    def _of_budget(self) -> Bench:
        """Return what these points are measured with."""
        return Bench(
            self.embedded,
            self.float_embeddings[:AGREEMENT_IMAGES],
            self.job.model.spec.preprocess(self.crops[:1]),
            timed=foreign(BACKENDS.get(self.job.recipe.backends[0])) is None,
            threads=self.job.threads,
        )

    def parity(self) -> ParityBlock:
        """Compare all that was embedded so far, each with each, and what lies inside."""
        inputs = self.job.model.spec.preprocess(self.crops[:LAYER_IMAGES])
        backends = [BACKENDS.get(name) for name in self.job.recipe.backends]
        return parity_ledger(self.made, backends, self.path, self.members, inputs)

    def verification(self) -> VerificationBlock:
        """Verify drawn identities that nothing was trained or calibrated on, with the float model and each artifact."""
        named = find_set(HELD_OUT)
        labels = np.arange(named.count) // named.parameters["images_per_identity"]
        people = f"{named.count} drawings of {labels[-1] + 1} held-out identities"
        return VerificationBlock(
            protocol=f"{people}: 3000 genuine and 3000 impostor pairs in 10 folds for the accuracy, all pairs for TAR",
            float_model=VerificationFigures.of(verify_identities(self.float_embeddings, labels)),
            artifacts={
                name: VerificationFigures.of(verify_identities(embeddings, labels))
                for name, embeddings in self.embeddings.items()
            },
        )


def _then_free(figures: ArtifactFigures) -> ArtifactFigures:
    """Return a file's figures once the memory that taking them left free is the system's again."""
    give_back_memory()
    return figures


def _whole_ms(layers_us: Mapping[str, float] | None) -> float | None:
    return None if layers_us is None else sum(layers_us.values()) / 1000


def _agreement(
    reference: npt.NDArray[np.float32], other: npt.NDArray[np.float32], what: str, *, drawn_tones: bool = False
) -> AgreementFigures:
    cosines = row_cosines(reference, other)
    tones = tone_losses(cosines) if drawn_tones else ()
    return AgreementFigures.of(measure_agreement(reference, other), what=what, cosines=cosines, tones=tones)
