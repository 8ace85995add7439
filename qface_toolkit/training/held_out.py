"""How good a student is on images that it never learnt from: close to its teacher, and able to tell people apart."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from qface_toolkit.datasets import FaceData
from qface_toolkit.errors import MeasurementError
from qface_toolkit.models import ModelSpec
from qface_toolkit.scoring.identities import verify_identities
from qface_toolkit.scoring.separation import measure_separation
from qface_toolkit.sources import Crop

FARS = (1e-2, 1e-3)
_PART = 32


@dataclass(frozen=True)
class HeldOut:
    """Crops uint8 [N, 112, 112, 3] and whose they are [N], None without labels."""

    crops: Crop
    labels: npt.NDArray[np.int64] | None

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
    """Return all images of a set that is small enough for the memory."""
    examples = [data.example(index) for index in range(len(data))]
    labels = np.array([example.label for example in examples]) if data.identities else None
    return HeldOut(np.stack([example.crop for example in examples]), labels)


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
    try:
        verified = verify_identities(found.numpy(), held_out.labels, fars=FARS)
        rates = measure_separation(found.numpy(), held_out.labels, FARS).rates
    except MeasurementError:
        # Too few images of some identity: then the cosine has to do.
        return Figures(cosine)
    return Figures(cosine, verified.pair_accuracy, rates.eer, rates.tar)
