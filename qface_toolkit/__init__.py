"""Compress a pretrained face-recognition model to a true int8 model, without one real face.

    import qface_toolkit as qf
    report = qf.compress("backbone.pth", out="out")

Names are looked up on first use, so that importing the package does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qface_toolkit.errors import QFaceError
    from qface_toolkit.models import FloatModel, ModelSpec, from_module, load_model
    from qface_toolkit.pipeline import Protocol, compress, evaluate, export
    from qface_toolkit.report import Evaluation, Report, read_report

__version__ = "0.1.0"

_HOME = {
    "Evaluation": "report",
    "FloatModel": "models",
    "ModelSpec": "models",
    "Protocol": "pipeline",
    "QFaceError": "errors",
    "Report": "report",
    "compress": "pipeline",
    "evaluate": "pipeline",
    "export": "pipeline",
    "from_module": "models",
    "load_model": "models",
    "read_report": "report",
}

__all__ = [
    "Evaluation",
    "FloatModel",
    "ModelSpec",
    "Protocol",
    "QFaceError",
    "Report",
    "compress",
    "evaluate",
    "export",
    "from_module",
    "load_model",
    "read_report",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
