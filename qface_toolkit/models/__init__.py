"""Face-recognition networks: one file a family, and the loader that recognises a stranger's checkpoint.

`load_model` and `from_module` give a `FloatModel`, whose `ModelSpec` holds its facts. Whoever opens a file that is no
checkpoint finds those facts by `stated_facts`, `missing_facts` and `with_facts`.
"""

from qface_toolkit.models._architecture import ARCHITECTURES, Architecture, Plan, Shapes, count_children
from qface_toolkit.models._checkpoint import load_model
from qface_toolkit.models._given import line_of
from qface_toolkit.models._model import FloatModel, from_module
from qface_toolkit.models._plausible import check_preprocessing, preprocessing_options, preprocessing_words
from qface_toolkit.models._spec import (
    COLORS,
    LARGEST_SIDE,
    SHORTEST_EMBEDDING,
    SIDES,
    SMALLEST_SIDE,
    Color,
    ModelSpec,
    how_to_give,
    is_size,
    missing_facts,
    stated_facts,
    stated_name,
    with_facts,
)

__all__ = [
    "ARCHITECTURES",
    "COLORS",
    "LARGEST_SIDE",
    "SHORTEST_EMBEDDING",
    "SIDES",
    "SMALLEST_SIDE",
    "Architecture",
    "Color",
    "FloatModel",
    "ModelSpec",
    "Plan",
    "Shapes",
    "check_preprocessing",
    "count_children",
    "from_module",
    "how_to_give",
    "line_of",
    "is_size",
    "load_model",
    "missing_facts",
    "preprocessing_options",
    "preprocessing_words",
    "stated_facts",
    "stated_name",
    "with_facts",
]
