"""Compress a pretrained face-recognition model to a true int8 model, without one real face.

    import qface_toolkit as qf
    report = qf.compress("backbone.pth", out="out")

Names are looked up on first use, so that importing the package does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qface_toolkit.errors import QFaceError
    from qface_toolkit.gate import Finding, Verdict
    from qface_toolkit.models import FloatModel, ModelSpec, from_module, load_model
    from qface_toolkit.pipeline import (
        Benchmark,
        EvaluationSet,
        Timed,
        benchmark,
        check,
        compress,
        evaluate,
        export,
        inspect,
        train,
        verify,
    )
    from qface_toolkit.report import Evaluation, Report, Training, read_report
    from qface_toolkit.result.finished import Result, open_result
    from qface_toolkit.runtimes.fusion import Fusion
    from qface_toolkit.verifier import FileVerdict, Verification

__version__ = "0.1.0"

_HOME = {
    "Benchmark": "pipeline",
    "Evaluation": "report",
    "FileVerdict": "verifier",
    "Finding": "gate",
    "FloatModel": "models",
    "Fusion": "runtimes.fusion",
    "ModelSpec": "models",
    "EvaluationSet": "pipeline",
    "QFaceError": "errors",
    "Report": "report",
    "Result": "result.finished",
    "Timed": "pipeline",
    "Training": "report",
    "Verdict": "gate",
    "Verification": "verifier",
    "benchmark": "pipeline",
    "check": "pipeline",
    "compress": "pipeline",
    "evaluate": "pipeline",
    "export": "pipeline",
    "from_module": "models",
    "inspect": "pipeline",
    "load_model": "models",
    "open_result": "result.finished",
    "read_report": "report",
    "train": "pipeline",
    "verify": "pipeline",
}

__all__ = [
    "Benchmark",
    "Evaluation",
    "FileVerdict",
    "Finding",
    "FloatModel",
    "Fusion",
    "ModelSpec",
    "EvaluationSet",
    "QFaceError",
    "Report",
    "Result",
    "Timed",
    "Training",
    "Verdict",
    "Verification",
    "benchmark",
    "check",
    "compress",
    "evaluate",
    "export",
    "from_module",
    "inspect",
    "load_model",
    "open_result",
    "read_report",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
