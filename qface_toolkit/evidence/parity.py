"""Make the parity ledger of a job: run the same drawings through every member, and look inside those that allow it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qface_toolkit.backends import Backend
from qface_toolkit.errors import MeasurementError
from qface_toolkit.report.parity import code_figures, layer_figures, pair_figures
from qface_toolkit.report.schema import CodeFigures, ParityBlock
from qface_toolkit.result.made import Made
from qface_toolkit.scoring.parity import compare_members

LAYER_IMAGES = 8

Floats = npt.NDArray[np.float32]


def parity_ledger(
    made: Made,
    backends: Sequence[Backend],
    path: Callable[[str], Path],
    embeddings: Mapping[str, Floats],
    inputs: Floats,
) -> ParityBlock:
    """Return the ledger: `embeddings` are each member's, in the order to show them in, of the same images.

    `inputs` are preprocessed images, [N, C, height, width], to look inside with, tensor by tensor.
    """
    targets = [backend.target for backend in backends]
    simulation = next((target for target in targets if target.keeps_layers), targets[0])
    tensors = made.tensors(simulation, inputs)
    return ParityBlock(
        images=len(next(iter(embeddings.values()))),
        members=tuple(embeddings),
        pairs=pair_figures(compare_members(embeddings)),
        layers=layer_figures(simulation.name, len(inputs), tensors) if tensors else None,
        codes=tuple(_codes(made, backend, path(backend.artifact), inputs) for backend in backends),
    )


def _codes(made: Made, backend: Backend, artifact: Path, inputs: Floats) -> CodeFigures:
    try:
        return code_figures(backend.artifact, len(inputs), made.differing_codes(backend, artifact, inputs))
    except MeasurementError as error:
        return CodeFigures(artifact=backend.artifact, images=0, tensors=0, not_compared=error.what)
