"""The 1:1 protocol of IJB-B and IJB-C, streamed: images become sums for each template, and are gone."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from qface_toolkit.evaluation import Embedder, IjbSet, stream_embeddings
from qface_toolkit.methods import Progress
from qface_toolkit.pipeline._protocols import Judged
from qface_toolkit.ranks import Ranks
from qface_toolkit.report.evaluation import ModelFigures, PairedFigures, TemplateFigures, plain_figures
from qface_toolkit.scoring.pair_list import Pairs, people_of_pairs
from qface_toolkit.scoring.resampling import draw_people
from qface_toolkit.scoring.tar_ijb import ListedScores, measure_template_losses, tar_ijb
from qface_toolkit.scoring.templates import Templates, TemplateSums, score_templates

Scores = npt.NDArray[np.float32]


def judge_templates(
    found: IjbSet,
    model: Embedder,
    reference: Embedder | None,
    *,
    flip: bool,
    cache: Path | None,
    threads: int,
    draws: int,
    seed: int,
    progress: Progress,
    ranks: Ranks,
) -> Judged:
    """Embed every image with each model, sum them up to templates and compare the listed ones.

    Raises:
        MeasurementError: if an image cannot be read, or an embedding is unusable.
    """

    def summed(embedder: Embedder) -> Templates:
        # Raw norms and detector scores weigh the images: mode N1 D1 of insightface's script, as the papers report.
        sums = TemplateSums(found.templates, found.media, norm="keep", detector_scores=found.detector)
        parts = stream_embeddings(
            embedder, found.images, flip=flip, cache=cache, threads=threads, progress=progress, ranks=ranks
        )
        for _, rows in parts:
            sums.add(rows)
        return sums.finish()

    probes = summed(model)
    ours = _scores(found, probes, probes)
    if reference is None:
        return Judged(_figures(found, ours), notes=found.notes)
    gallery = summed(reference)
    scores = ListedScores(_scores(found, gallery, gallery), ours, _scores(found, gallery, probes))
    pairs = Pairs(found.first.astype(np.intp), found.second.astype(np.intp), found.same, folds=1)
    owners = people_of_pairs(pairs, len(found.template_ids))
    losses = measure_template_losses(
        scores, found.same, (owners[found.first], owners[found.second]), draw_people(int(owners.max()) + 1, draws, seed)
    )
    note = f"the pairs of templates tell {owners.max() + 1:,} people apart, for intervals"
    paired = PairedFigures(figures=plain_figures(losses))
    of_reference = _figures(found, np.asarray(scores.reference))
    return Judged(_figures(found, ours), of_reference, paired, notes=(*found.notes, note))


def _scores(found: IjbSet, gallery: Templates, probes: Templates) -> Scores:
    """Return the scores of the listed pairs where the first template is one model's and the second another's."""
    both = Templates(np.arange(2 * len(gallery.ids)), np.concatenate([gallery.units, probes.units]))
    return score_templates(both, found.first, found.second + len(gallery.ids))


def _figures(found: IjbSet, scores: npt.NDArray[np.floating]) -> ModelFigures:
    rates = tar_ijb(scores, found.same)
    templates = TemplateFigures(
        tar_ijb=rates.tar,
        fpr=rates.fpr,
        genuine=rates.genuine,
        impostors=rates.impostors,
        unsupported=rates.unsupported,
    )
    return ModelFigures(templates=templates)
