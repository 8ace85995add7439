"""Where calibration images come from: one file a kind. No kind imports torch before a set of it is opened."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qface_toolkit.sources._ahead import DrawnAhead, draw
from qface_toolkit.sources._base import (
    SOURCES,
    Crop,
    CropsByIndex,
    ImageSet,
    Manifest,
    Provenance,
    Source,
    load_crops,
    pixel_sha256,
)
from qface_toolkit.sources._sets import NamedSet, contact_sheet, find_set, list_sets, set_names, write_set
from qface_toolkit.sources.folder import listed_crops

if TYPE_CHECKING:
    from qface_toolkit.sources._identity import Attributes

__all__ = [
    "SOURCES",
    "Crop",
    "CropsByIndex",
    "DrawnAhead",
    "ImageSet",
    "Manifest",
    "NamedSet",
    "Provenance",
    "Source",
    "contact_sheet",
    "draw",
    "drawn_traits",
    "find_set",
    "list_sets",
    "listed_crops",
    "load_crops",
    "pixel_sha256",
    "set_names",
    "write_set",
]


def drawn_traits(seed: int, identities: int, attributes: "Attributes") -> npt.NDArray[np.float32]:
    """Return how the first identities of a seed look: attributes as shares of their ranges, [identities, K], -1..1."""
    from qface_toolkit.sources._identity import draw_identity, traits

    return np.stack([traits(draw_identity(seed, number, attributes)) for number in range(identities)])
