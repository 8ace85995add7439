"""The steps a recipe is made of: one file a method. Methods never lower."""

from qface_toolkit.methods._base import Context, Gift, Inputs, Method, Model, Need, Progress
from qface_toolkit.methods._running import METHODS, apply_method, check_steps, gives, step_giving, wanted_of
from qface_toolkit.methods._services import Crops, FileSizes, Foreseen, Forms, Record, Reference, Shelf, Source

__all__ = [
    "METHODS",
    "Context",
    "Crops",
    "FileSizes",
    "Foreseen",
    "Forms",
    "Gift",
    "Inputs",
    "Method",
    "Model",
    "Need",
    "Progress",
    "Record",
    "Reference",
    "Shelf",
    "Source",
    "apply_method",
    "check_steps",
    "gives",
    "step_giving",
    "wanted_of",
]
