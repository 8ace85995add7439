"""Whether a model's preprocessing suits it, seen by what it embeds: a few crops of the user's, or drawings.

A network that is fed as in training knows a face and its mirror image for one person, and two faces for two. The
distance between these two kinds of cosines, in their standard deviations (d'), is compared with what the usual
preprocessings give. Crops are looked at here and never calibrated on.

The bounds come from eight public networks (MobileFaceNets with 127.5, ImageNet's and built-in constants, EdgeFace,
dlib's) on 1,500 real crops that no evaluation uses, and on drawings, in 60 draws of 8, 16 and 32. Fed rightly, their d'
is 9 to 20 on faces (dlib's 3.2 to 4.7) and 4 to 9 on drawings; fed on another scale it is 0.7 of that at most.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qface_toolkit.errors import CalibrationError, CheckpointError
from qface_toolkit.models import FloatModel, ModelSpec, preprocessing_options, preprocessing_words
from qface_toolkit.result.golden import held_out
from qface_toolkit.scoring.mirrored import MirrorScore, score_mirrored
from qface_toolkit.sources import Crop, listed_crops

_USUAL: tuple[Mapping[str, Any], ...] = (
    {"mean": 127.5, "std": 127.5},
    {"mean": 0.0, "std": 255.0},
    {"mean": 0.0, "std": 1.0},
    {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
)
_BETTER = ((32, 1.1), (16, 1.2), (8, 1.3))
"""Crops -> how many times the d' another preprocessing needs to be called better; chance gave 1.06, 1.13 and 1.22."""
_CHANCE = 1.1
_FEWEST, _MOST = 8, 32
_DRAWINGS = 16
_OTHER_SCALE = 1.5
"""How many times the d' shows another scale; on it the least was 1.47, and what is merely better reached 1.4."""
_KNOWS = 4.0
"""The d' from which on a network surely tells drawings apart; one that was never trained has 2 or 3."""
_BATCH = 8


def judge_preprocessing(
    model: FloatModel, faces: str | Path | None, given: Mapping[str, Any], *, known: bool
) -> FloatModel:
    """Return the model with what its embeddings say about its preprocessing, on a folder of crops or on drawings.

    Without crops, only facts that somebody gave are looked at, and doubts are warnings; `known` says that all others
    are those of a file.

    Raises:
        CheckpointError: if another preprocessing shows the crops to be fed on another scale, unless it was `checked`.
        CalibrationError: if the folder holds no or too few crops.
    """
    if faces is not None:
        return _on_faces(model, Path(faces), checked=bool(given.get("checked")))
    if given.get("checked") or (known and not {"mean", "std"} & given.keys()):
        return model
    return _on_drawings(model)


@dataclass(frozen=True)
class _Trial:
    spec: ModelSpec
    score: MirrorScore


def _on_faces(model: FloatModel, folder: Path, *, checked: bool) -> FloatModel:
    crops = listed_crops(folder, most=_MOST, frame=model.spec.frame)
    if len(crops) < _FEWEST:
        what = f"the folder holds {len(crops)} crop(s), and fewer than {_FEWEST} tell nothing"
        raise CalibrationError(what, where=str(folder), fix=f"put {_MOST} aligned crops of different people there")
    own = _tried(model, model.spec, crops)
    others = [_tried(model, spec, crops) for spec in _usual(model.spec)]
    colours = dict.fromkeys((own.spec, _best([own, *others]).spec)) if model.spec.channels == 3 else {}
    best = _best([*others, *(_tried(model, _turned(spec), crops) for spec in colours)])
    if _gain(own, best) > _OTHER_SCALE and not checked:
        raise CheckpointError(
            f"the network hardly tells {len(crops)} crops apart as it is fed, {_told(own)}; it does with {_told(best)}",
            where=str(folder),
            fix=f"try {preprocessing_options(best.spec)}; or insist by --set model.checked=true",
        )
    note = f"preprocessing checked on {len(crops)} crops, {_told(own)}"
    if _gain(own, best) <= next(factor for count, factor in _BETTER if len(crops) >= count):
        return replace(model, notes=(*model.notes, note))
    return _warned(model, f"{note}; better with {_told(best)}: try {preprocessing_options(best.spec)}")


def _warned(model: FloatModel, doubt: str) -> FloatModel:
    return replace(model, notes=(*model.notes, doubt), warnings=(*model.warnings, doubt))


def _best(trials: Sequence[_Trial]) -> _Trial:
    """Return the first that does as well as any, as far as chance lets that be told: the usual ones stand first."""
    most = max(one.score.deviations for one in trials)
    return next(one for one in trials if one.score.deviations * _CHANCE >= most)


def _on_drawings(model: FloatModel) -> FloatModel:
    drawings = held_out(_DRAWINGS, model.spec.frame)
    own = _tried(model, model.spec, drawings)
    if own.score.deviations >= _KNOWS:
        return model
    best = _best([_tried(model, spec, drawings) for spec in _usual(model.spec)])
    if best.score.deviations < _KNOWS or _gain(own, best) <= _OTHER_SCALE:
        return model
    doubt = (
        f"mean and std may be wrong: the network hardly tells drawings apart as it is fed, {_told(own)}; it does with "
        f"{_told(best)}. A folder of a few aligned crops tells more: --faces DIR"
    )
    return _warned(model, doubt)


def _gain(own: _Trial, best: _Trial) -> float:
    """Return how many times the d' of a preprocessing another has; a network that tells nothing apart gains nothing."""
    least = max(own.score.deviations, 0.1)
    return best.score.deviations / least if best.score.deviations > 1 else 1.0


def _told(trial: _Trial) -> str:
    score = trial.score
    return (
        f"{preprocessing_words(trial.spec)}: a mean cosine of {score.mirrored:.2f} with the mirror image and "
        f"{score.others:.2f} with other pictures, {score.deviations:.1f} deviations apart, length {score.norm:.3g}"
    )


def _usual(spec: ModelSpec) -> Iterator[ModelSpec]:
    """Yield the spec with each usual mean and std that its own are not, or nearly."""
    for facts in _USUAL:
        other = spec if spec.channels == 1 and isinstance(facts["mean"], list) else spec.override(facts)
        if not (np.allclose(other.mean, spec.mean, atol=1) and np.allclose(other.std, spec.std, rtol=0.02)):
            yield other


def _turned(spec: ModelSpec) -> ModelSpec:
    """Return the spec with the other order of colours; each colour keeps its mean and std."""
    color = "rgb" if spec.color == "bgr" else "bgr"
    return spec.override({"color": color, "mean": list(spec.mean[::-1]), "std": list(spec.std[::-1])})


def _tried(model: FloatModel, spec: ModelSpec, crops: Crop) -> _Trial:
    rows, mirrored = (_embedded(model, spec.preprocess(one)) for one in (crops, crops[:, :, ::-1]))
    return _Trial(spec, score_mirrored(rows, mirrored))


def _embedded(model: FloatModel, inputs: Any) -> Any:  # noqa: ANN401 - arrays of numpy
    with torch.inference_mode():
        parts = [
            model.network.eval()(torch.from_numpy(inputs[at : at + _BATCH])).numpy()
            for at in range(0, len(inputs), _BATCH)
        ]
    return np.nan_to_num(np.concatenate(parts), posinf=0, neginf=0)
