"""What a method is: a step of a recipe, with options of its own, that turns one QuantizedModel into another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from qface_toolkit.quantize.forms import FormTimes
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import Form
from qface_toolkit.quantize.target import Target

Inputs = npt.NDArray[np.float32]
"""Preprocessed calibration images, float32 [N, 3, height, width]."""

Progress = Callable[[int, int], None]
"""Called with (work done, work in all) so that somebody can draw a bar."""


@dataclass(frozen=True)
class Context:
    """What every method is given beside the model: data, the target to simulate, a seed and somebody to tell.

    `prelu` is the ONNX form that every PReLU shall have, or "auto" to choose by `form_times` (None: the package's own).
    `reference` returns the embeddings of the model as it came, before any step changed its weights (None: as given).
    `artifact_bytes` returns the size of the file that a model becomes, of which there is a budget, `float_bytes` is
    that of float.onnx (None: nobody knows). `record` keeps plain values that a step has to tell the report.
    """

    inputs: Inputs
    target: Target
    seed: int
    batch_size: int
    progress: Progress
    prelu: Form | Literal["auto"] = "auto"
    form_times: FormTimes | None = None
    reference: Callable[[Inputs], Inputs] | None = None
    artifact_bytes: Callable[[QuantizedModel], int] | None = None
    float_bytes: int | None = None
    record: Callable[[str, Mapping[str, Any]], None] | None = None


class Method(Protocol):
    """One kind of step: what a file of this folder puts into `ENTRIES`."""

    options: type[BaseModel]

    def run(self, model: QuantizedModel, options: Any, context: Context) -> QuantizedModel:  # noqa: ANN401 - its own
        """Return the model after the step; the one given is left alone."""
        ...

    def passes(self, options: Any, images: int) -> float:  # noqa: ANN401 - its own
        """Return how many passes of one image through the network the step is worth, for so many images.

        A backward pass counts as two.
        """
        ...
