"""The 1:1 protocol of IJB-B and IJB-C, streamed: images become sums for each template, and are gone."""

from pathlib import Path

import numpy as np

from qface_toolkit.evaluation import Embedder, IjbSet, stream_embeddings
from qface_toolkit.measure.templates import TarIjb, Templates, TemplateSums, score_templates, tar_ijb
from qface_toolkit.methods import Progress
from qface_toolkit.pipeline._protocols import Judged
from qface_toolkit.report._evaluation import Figure, ModelFigures, PairedFigures, TemplateFigures

NO_INTERVALS = "no intervals: the pairs of templates are too many to be weighed anew for every draw of people"


def judge_templates(
    found: IjbSet,
    model: Embedder,
    reference: Embedder | None,
    flip: bool,
    cache: Path | None,
    threads: int,
    progress: Progress,
) -> Judged:
    """Embed every image with each model, sum them up to templates and compare the listed ones.

    Raises:
        MeasurementError: if an image cannot be read, or an embedding is unusable.
    """
    templates = _templates(found, model, flip, cache, threads, progress)
    ours = _rates(found, templates, templates)
    figures = ModelFigures(templates=ours)
    if reference is None:
        return Judged(figures, notes=found.notes)
    gallery = _templates(found, reference, flip, cache, threads, progress)
    theirs, mixed = _rates(found, gallery, gallery), _rates(found, gallery, templates)
    paired = PairedFigures(figures=_losses(theirs, ours, mixed))
    return Judged(figures, ModelFigures(templates=theirs), paired, notes=(*found.notes, NO_INTERVALS))


def _templates(
    found: IjbSet, model: Embedder, flip: bool, cache: Path | None, threads: int, progress: Progress
) -> Templates:
    # Raw norms and detector scores weigh the images: mode N1 D1 of insightface's script, as the papers report.
    sums = TemplateSums(found.templates, found.media, norm="keep", detector_scores=found.detector)
    for _, rows in stream_embeddings(
        model, found.images, flip=flip, cache=cache, threads=threads, progress=progress
    ):
        sums.add(rows)
    return sums.finish()


def _rates(found: IjbSet, gallery: Templates, probes: Templates) -> TemplateFigures:
    """Return the rates where the first template of each pair is one model's and the second another's."""
    both = Templates(np.arange(2 * len(gallery.ids)), np.concatenate([gallery.units, probes.units]))
    scores = score_templates(both, found.first, found.second + len(gallery.ids))
    return TemplateFigures.model_validate(_flat(tar_ijb(scores, found.same)))


def _flat(rates: TarIjb) -> dict[str, object]:
    return {
        "tar_ijb": rates.tar, "fpr": rates.fpr, "genuine": rates.genuine, "impostors": rates.impostors,
        "unsupported": rates.unsupported,
    }  # fmt: skip


def _losses(reference: TemplateFigures, model: TemplateFigures, mixed: TemplateFigures) -> dict[str, Figure]:
    """Return what `measure.paired` calls these figures, without intervals."""
    figures = {}
    for far, before in reference.tar_ijb.items():
        figures[f"float_tar@{far}"] = Figure(value=before)
        for name, one in (("tar", model), ("mixed_tar", mixed)):
            figures[f"{name}@{far}"] = Figure(value=one.tar_ijb[far])
            figures[f"{name}_lost@{far}"] = Figure(value=before - one.tar_ijb[far])
    return figures
