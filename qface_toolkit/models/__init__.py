"""Face-recognition networks: one file a family, and the loader that recognises a stranger's checkpoint.

`load_model` and `from_module` give a `FloatModel`, whose `ModelSpec` holds its facts. `build_student` and
`open_student` give one to be trained, and `student_bytes` its file. Whoever opens a file that is no checkpoint finds
those facts by `stated_facts`, `missing_facts` and `with_facts`.
"""

from qface_toolkit.models._architecture import (
    ARCHITECTURES,
    Architecture,
    Plan,
    ScalablePlan,
    Shapes,
    count_children,
    scaled_channels,
)
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
    is_size,
)
from qface_toolkit.models._stated import how_to_give, missing_facts, stated_facts, stated_name, with_facts
from qface_toolkit.models._student import NARROWEST, WIDEST, build_student, open_student
from qface_toolkit.models._student_file import student_bytes, student_metadata
from qface_toolkit.untrusted.formats import ROUNDED_FILE, STUDENT_FILE

__all__ = [
    "ARCHITECTURES",
    "COLORS",
    "LARGEST_SIDE",
    "NARROWEST",
    "SHORTEST_EMBEDDING",
    "SIDES",
    "SMALLEST_SIDE",
    "ROUNDED_FILE",
    "STUDENT_FILE",
    "WIDEST",
    "Architecture",
    "Color",
    "FloatModel",
    "ModelSpec",
    "Plan",
    "ScalablePlan",
    "Shapes",
    "build_student",
    "check_preprocessing",
    "count_children",
    "from_module",
    "how_to_give",
    "line_of",
    "is_size",
    "load_model",
    "missing_facts",
    "open_student",
    "preprocessing_options",
    "preprocessing_words",
    "scaled_channels",
    "stated_facts",
    "stated_name",
    "student_bytes",
    "student_metadata",
    "with_facts",
]
