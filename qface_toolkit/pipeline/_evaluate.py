"""Judge a model by the protocols of the field, alone or beside its float model: from files to one `Evaluation`."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from qface_toolkit.environment import record_environment, set_determinism
from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation import (
    BY_TONE,
    Embedder,
    FaceImages,
    Groups,
    PeopleSet,
    Rows,
    check_kinds,
    drawn_tones,
    embed_images,
    read_groups,
    read_ijb,
    read_pairs,
    read_people,
    synthetic_people,
    tones_of_photographs,
)
from qface_toolkit.methods import Progress
from qface_toolkit.models import FloatModel
from qface_toolkit.pipeline._protocols import Judged, judge_pairs, judge_people
from qface_toolkit.pipeline._templates import judge_templates
from qface_toolkit.ranks import ALONE, Ranks, joined_ranks, threads_of_one
from qface_toolkit.report.evaluation import EvaluatedData, EvaluatedModel, Evaluation
from qface_toolkit.report.evaluation_sections import PLOT
from qface_toolkit.report.markdown import evaluation_markdown
from qface_toolkit.report.plots import evaluation_plot
from qface_toolkit.result.job import Tell, silent
from qface_toolkit.result.opening import Wanted, open_embedder, read_facts, result_files
from qface_toolkit.result.pages import add_evaluation, is_result
from qface_toolkit.result.writing import check_free, write_together
from qface_toolkit.untrusted.json import json_bytes

JSON, MARKDOWN = "evaluation.json", "evaluation.md"
_FACTS = ("kind", "name", "images", "people", "pairs", "sha256")
_SETS = "pairs=FILE.bin, faces=DIR, ijb=DIR or synthetic=True"


@dataclass(frozen=True)
class EvaluationSet:
    """What to evaluate on, exactly one of the first four, and how; None is the protocol's own habit.

    `flip` adds the mirrored image's embedding: by default for pairs and ijb, as their protocols do, and not elsewhere.
    `per_identity` caps the images of a person. `groups` is a CSV of image and group, or "ita": groups by skin tone, as
    faces have without being asked wherever there is a float model and the crops are aligned. `draws` is how often
    people are drawn anew for an interval.
    """

    pairs: str | Path | None = None
    faces: str | Path | None = None
    ijb: str | Path | None = None
    synthetic: bool = False
    flip: bool | None = None
    folds: int = 10
    per_identity: int | None = None
    groups: str | Path | None = None
    draws: int = 1000

    def __post_init__(self) -> None:
        chosen = sum(bool(one) for one in (self.pairs, self.faces, self.ijb, self.synthetic))
        if chosen != 1:
            raise MeasurementError(f"{chosen} sets of images were given, not one", fix=f"give one of {_SETS}")
        if self.groups and not (self.faces or (self.synthetic and self.groups == BY_TONE)):
            fix = f"give the groups of a folder of people's images; drawings have groups by skin tone: {BY_TONE}"
            raise MeasurementError("only people have groups", where=str(self.groups), fix=fix)


def evaluate(
    model: str | Path | FloatModel,
    evaluation_set: EvaluationSet,
    *,
    reference: str | Path | FloatModel | None = None,
    sets: Sequence[str] = (),
    name: str | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    threads: int | None = None,
    tell: Tell = silent,
    command: str = "",
) -> Evaluation:
    """Judge a model, and compare it with its float model where that is given; see `EvaluationSet`.

    `model` is a checkpoint, an .onnx file, an archive of ours, or a result's folder, which stands for the file that
    this machine would deploy and is compared with its own float.onnx. `sets` are KEY=VALUE strings of the models'
    facts (model.mean=127.5), `cache` a folder that keeps embeddings for the next time. Under torchrun every process
    calls this with the same arguments, embeds its share of the images, and is told what rank 0 found.

    Raises:
        QFaceError: whatever the user can mend.
    """
    threads = threads or threads_of_one()
    set_determinism(seed, threads)
    with joined_ranks() as ranks:
        work = _open_models(model, reference, evaluation_set, read_facts(sets), name, threads)
        work = replace(work, cache=Path(cache) if cache else None, seed=seed, tell=tell, ranks=ranks)
        try:
            found = work.evaluation(command)
        except _Follows:
            return Evaluation.model_validate_json(ranks.tell(b""))
        ranks.tell(found.model_dump_json().encode())
        return found


class _Follows(Exception):
    """This process has embedded its share: rank 0 judges."""


def _open_models(
    model: str | Path | FloatModel,
    reference: str | Path | FloatModel | None,
    evaluation_set: EvaluationSet,
    facts: dict[str, Any],
    name: str | None,
    threads: int,
) -> "_Work":
    wanted = Wanted(facts, name, threads=threads)
    found = None if isinstance(model, FloatModel) else result_files(model)
    if found is not None:
        model, reference = found[0], reference or found[1]
    beside = None if reference is None else open_embedder(_deployed(reference), wanted)
    if evaluation_set.groups and beside is None:
        what, fix = "the losses of groups need the float model", "give it by --reference, or take the groups away"
        raise MeasurementError(what, where=str(evaluation_set.groups), fix=fix)
    like = None if beside is None else beside.spec
    opened = open_embedder(model, Wanted(wanted.facts, name, like, threads))
    return _Work(opened, beside, evaluation_set, threads)


def _deployed(reference: str | Path | FloatModel) -> str | Path | FloatModel:
    """Return the float file where a result's folder is meant as the reference."""
    found = None if isinstance(reference, FloatModel) else result_files(reference)
    return reference if found is None else found[1]


def _facts(embedder: Embedder) -> EvaluatedModel:
    size = embedder.spec.embedding_size
    return EvaluatedModel(name=embedder.name, sha256=embedder.sha256, runtime=embedder.runtime, embedding_size=size)


def _data(description: dict[str, Any]) -> EvaluatedData:
    known = {key: value for key, value in description.items() if key in _FACTS}
    return EvaluatedData(**known, details={key: value for key, value in description.items() if key not in _FACTS})


@dataclass
class _Work:
    """One evaluation, with the models open."""

    model: Embedder
    reference: Embedder | None
    evaluation_set: EvaluationSet
    threads: int
    cache: Path | None = None
    seed: int = 0
    tell: Tell = silent
    ranks: Ranks = ALONE
    seconds: dict[str, float] = field(default_factory=dict)

    def evaluation(self, command: str) -> Evaluation:
        """Return what came out, with what it was found by."""
        data, flip, judged = self.judged()
        return Evaluation(
            model=_facts(self.model),
            reference=_facts(self.reference) if self.reference else None,
            data=_data(data),
            flip=flip,
            draws=self.evaluation_set.draws if judged.paired else 0,
            figures=judged.figures,
            reference_figures=judged.reference,
            paired=judged.paired,
            groups=judged.groups,
            notes=(*self.model.notes, *judged.notes),
            seconds=self.seconds,
            environment=record_environment(self.seed, self.threads),
            command=command,
        )

    @contextmanager
    def step(self, name: str, told: str) -> Iterator[Progress]:
        """Tell that a step begins, and note how long it takes under its short name."""
        started = time.perf_counter()
        yield self.tell(told)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def judged(self) -> tuple[dict[str, Any], bool, Judged]:
        """Return what the set is, whether images were mirrored too, and what came out."""
        wanted = self.evaluation_set
        if wanted.ijb:
            return self._templates(Path(wanted.ijb))
        if wanted.pairs:
            return self._pairs(Path(wanted.pairs))
        return self._people()

    def _flip(self, habit: bool) -> bool:
        return habit if self.evaluation_set.flip is None else self.evaluation_set.flip

    def _people(self) -> tuple[dict[str, Any], bool, Judged]:
        wanted, flip = self.evaluation_set, self._flip(False)
        with self.step("read", "read the images' names"):
            people = read_people(Path(wanted.faces), wanted.per_identity) if wanted.faces else synthetic_people()
            groups = self._groups(people)
        rows, reference = self._embedded(people.images, flip)
        with self.step("compare", "compare every two images") as progress:
            judged = judge_people(people, rows, reference, groups, wanted.draws, self.seed, progress)
        return people.description, flip, judged

    def _groups(self, people: PeopleSet) -> Groups | None:
        """Return the groups that were asked for, or those by skin tone where these can be told."""
        wanted = self.evaluation_set
        if self.reference is None:
            return None
        if wanted.groups and wanted.groups != BY_TONE:
            return read_groups(Path(wanted.groups), people)
        if wanted.synthetic:
            return drawn_tones(people) if wanted.groups else None
        try:
            return tones_of_photographs(people)
        except MeasurementError as error:
            if wanted.groups:
                raise
            return Groups((), np.full(len(people.paths), -1), (f"no groups by skin tone: {error.what}",))

    def _pairs(self, path: Path) -> tuple[dict[str, Any], bool, Judged]:
        flip = self._flip(True)
        with self.step("read", f"read {path.name}"):
            found = read_pairs(path, self.evaluation_set.folds)
            check_kinds(found, path)
        rows, reference = self._embedded(found.images, flip)
        with self.step("compare", "compare the pairs"):
            judged = judge_pairs(found, rows, reference, self.evaluation_set.draws, self.seed)
        return found.description, flip, judged

    def _templates(self, folder: Path) -> tuple[dict[str, Any], bool, Judged]:
        flip = self._flip(True)
        with self.step("read", "read the templates and pairs"):
            found = read_ijb(folder)
        with self.step("embed and compare", f"embed {len(found.images):,} images") as progress:
            judged = judge_templates(
                found,
                self.model,
                self.reference,
                flip=flip,
                cache=self.cache,
                threads=self.threads,
                draws=self.evaluation_set.draws,
                seed=self.seed,
                progress=progress,
                ranks=self.ranks,
            )
        if not self.ranks.leads:
            raise _Follows
        return found.description, flip, judged

    def _embedded(self, images: FaceImages, flip: bool) -> tuple[Rows, Rows | None]:
        reference = None if self.reference is None else self._embed(self.reference, images, flip)
        rows = self._embed(self.model, images, flip)
        if not self.ranks.leads:
            raise _Follows
        return rows, reference

    def _embed(self, embedder: Embedder, images: FaceImages, flip: bool) -> Rows:
        with self.step("embed", f"embed {len(images):,} images with {embedder.name}") as progress:
            shared: dict[str, Any] = {"threads": self.threads, "cache": self.cache, "ranks": self.ranks}
            return embed_images(embedder, images, flip=flip, progress=progress, **shared)


def write_evaluation(found: Evaluation, folder: Path, *, force: bool = False) -> tuple[Path, ...]:
    """Write the evaluation, the page about it and its picture into a folder, which is made if it is missing.

    Where the folder is the result whose file was judged, its pages tell of it from then on.

    Raises:
        ArtifactError: if there is an evaluation already, the folder is another result, or the disk refuses.
    """
    contents = {JSON: json_bytes(found.model_dump(mode="json")), MARKDOWN: evaluation_markdown(found).encode()}
    picture = evaluation_plot(found)
    contents |= {} if picture is None else {PLOT: picture}
    if not is_result(folder):
        return write_together(contents, folder, force=force)
    check_free(folder / JSON, force=force)
    add_evaluation(folder, found, contents)
    return tuple(folder / name for name in contents)
