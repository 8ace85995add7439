"""What a backend is: it lowers a QuantizedModel to one runtime's own form, and runs what it wrote."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import Target
from qface_toolkit.runtimes.fusion import Fusion
from qface_toolkit.scoring.parity import Codes

Embed = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""Runs a model: inputs float32 [N, 3, height, width] to embeddings float32 [N, D]."""

Facts = Mapping[str, str]
"""What travels inside an artifact beside the network: preprocessing, oldest runtime, provenance."""


class Backend(Protocol):
    """One form for one runtime: what a file of this folder puts into `ENTRIES`."""

    artifact: str
    """Name of the file that it writes."""
    runtime: str
    """The runtime that runs it: "onnxruntime", "torch", "openvino" or "simulation"."""
    engine: str
    """The runtime's engine, or the kind of processor that the form is for."""
    target: Target

    def lower(self, model: QuantizedModel, facts: Facts) -> bytes:
        """Return the artifact.

        Raises:
            BackendUnavailable: if this machine cannot make it.
        """
        ...

    def open(self, artifact: Path, threads: int, content: bytes | None = None) -> Embed:
        """Load an artifact for running with this many threads; `content` are its bytes if they were read already.

        Raises:
            BackendUnavailable: if this machine cannot run it.
        """
        ...

    def codes(self, artifact: Path, model: QuantizedModel, inputs: npt.NDArray[np.float32]) -> Mapping[str, Codes]:
        """Return what the runtime computes inside an artifact of `model`: each tensor's codes, as unsigned ones count.

        `inputs` are preprocessed images, float32 [N, 3, height, width].

        Raises:
            MeasurementError: if the codes cannot be had.
        """
        ...

    def inspect(self, artifact: Path) -> Fusion:
        """Return what the runtime really runs, operator by operator, and what did not become integer."""
        ...
