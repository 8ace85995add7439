"""Where calibration images come from: one file a kind. No kind imports torch before a set of it is opened."""

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
    "find_set",
    "list_sets",
    "listed_crops",
    "load_crops",
    "pixel_sha256",
    "set_names",
    "write_set",
]
