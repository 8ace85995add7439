"""How good a student is on images that it never learnt from: close to its teacher, and able to tell people apart."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from qface_toolkit.datasets import FaceData
from qface_toolkit.errors import CalibrationError, MeasurementError, TrainingError
from qface_toolkit.models import ModelSpec
from qface_toolkit.scoring.identities import verify_identities
from qface_toolkit.scoring.separation import measure_separation
from qface_toolkit.sources import Crop

FARS = (1e-2, 1e-3)
_PART = 32
_MOST = 4096
"""Images that are judged after every epoch, two of each identity at least: all of them are held against each other."""


@dataclass(frozen=True)
class HeldOut:
    """Crops uint8 [N, 112, 112, 3] and whose they are [N], None without labels; `broken` could not be read."""

    crops: Crop
    labels: npt.NDArray[np.int64] | None
    broken: int = 0

    def __len__(self) -> int:
        """Return how many crops there are."""
        return len(self.crops)


@dataclass(frozen=True)
class Figures:
    """What was measured, as far as it can be: the cosine to the teacher, and how well pairs are told apart."""

    cosine_mean: float | None = None
    pair_accuracy: float | None = None
    eer: float | None = None
    tar: dict[str, float] = field(default_factory=dict)

    @property
    def score(self) -> float | None:
        """The figure that says which epoch was better."""
        return self.cosine_mean if self.cosine_mean is not None else self.pair_accuracy


def read_held_out(data: FaceData) -> HeldOut:
    """Return images of a set that is held out: all of them, or of people as many of each as can be judged often.

    Raises:
        TrainingError: if none can be read.
    """
    examples, errors = [], []
    for index in _judged(data):
        try:
            examples.append(data.example(int(index)))
        except CalibrationError as error:
            errors.append(error)
    if not examples:
        what = f"none of the {len(errors)} images that are held out could be read"
        raise TrainingError(what, where=f"{errors[0].where}: {errors[0].what}", fix="look at the images")
    labels = np.array([example.label for example in examples]) if data.identities else None
    return HeldOut(np.stack([example.crop for example in examples]), labels, len(errors))


def _judged(data: FaceData) -> npt.NDArray[np.int64]:
    """Return the numbers of the images that are judged: the first ones of each identity."""
    labels = data.labels()
    if labels is None:
        return np.arange(len(data))
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    turn = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[turn < max(2, _MOST // len(counts))])


def tells_apart(data: FaceData) -> bool:
    """Tell whether two images of one person, and of two people, are there: then pairs can be judged."""
    labels = data.labels()
    return labels is not None and int((np.bincount(labels) > 1).sum()) > 1


@torch.inference_mode()
def embed(network: nn.Module, spec: ModelSpec, crops: Crop, device: torch.device) -> Tensor:
    """Return a network's normalised embeddings of crops, float32 [N, D], on the CPU; it is left in its mode."""
    training = network.training
    network.eval()
    parts = []
    for start in range(0, len(crops), _PART):
        images = torch.from_numpy(spec.preprocess(crops[start : start + _PART])).to(device)
        parts.append(functional.normalize(network(images).float()).cpu())
    network.train(training)
    return torch.cat(parts)


def measure(found: Tensor, wanted: Tensor | None, held_out: HeldOut) -> Figures:
    """Return the figures of embeddings [N, D], beside those of the teacher if there is one of the same size."""
    cosine = None if wanted is None else float(functional.cosine_similarity(found.double(), wanted.double()).mean())
    if held_out.labels is None:
        return Figures(cosine)
    # Of a single image there is no genuine pair.
    several = np.bincount(held_out.labels)[held_out.labels] > 1
    rows, labels = found.numpy()[several], held_out.labels[several]
    try:
        verified = verify_identities(rows, labels, fars=FARS)
        rates = measure_separation(rows, labels, FARS).rates
    except MeasurementError:
        # Too few people: then the cosine has to do.
        return Figures(cosine)
    return Figures(cosine, verified.pair_accuracy, rates.eer, rates.tar)
