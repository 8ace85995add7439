"""Face-recognition networks: one file a family, and the loader that recognises a stranger's checkpoint."""

from qface_toolkit.models._architecture import ARCHITECTURES, Architecture, Plan
from qface_toolkit.models._checkpoint import load_model
from qface_toolkit.models._model import FloatModel, from_module
from qface_toolkit.models._spec import CROP_SIZE, ModelSpec

__all__ = ["ARCHITECTURES", "CROP_SIZE", "Architecture", "FloatModel", "ModelSpec", "Plan", "from_module", "load_model"]
