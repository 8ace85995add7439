"""Where calibration images come from: one file a kind. Nothing in this folder imports torch."""

from qface_toolkit.sources._base import SOURCES, Crop, ImageSet, Manifest, Source, describe, load_crops, pixel_sha256
from qface_toolkit.sources._contact_sheet import contact_sheet
from qface_toolkit.sources._sets import NamedSet, find_set, set_names, write_set

__all__ = [
    "SOURCES",
    "Crop",
    "ImageSet",
    "Manifest",
    "NamedSet",
    "Source",
    "contact_sheet",
    "describe",
    "find_set",
    "load_crops",
    "pixel_sha256",
    "set_names",
    "write_set",
]
