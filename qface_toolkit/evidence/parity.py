"""Make the parity ledger of a job: run the same drawings through every member, and look inside those that allow it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qface_toolkit.backends import Backend
from qface_toolkit.errors import MeasurementError
from qface_toolkit.integer.making import program_of
from qface_toolkit.integer.simulate import Simulator
from qface_toolkit.integer.tensors import side_by_side, tensor_sources
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.target import ONNX, Target
from qface_toolkit.report.parity import code_figures, layer_figures, pair_figures
from qface_toolkit.report.schema import CodeFigures, LayerFigures, ParityBlock
from qface_toolkit.scoring.parity import (
    CodeDifference,
    TensorAgreement,
    compare_codes,
    compare_members,
    compare_tensors,
)

LAYER_IMAGES = 8

Floats = npt.NDArray[np.float32]


def parity_ledger(
    model: QuantizedModel,
    backends: Sequence[Backend],
    path: Callable[[str], Path],
    embeddings: Mapping[str, Floats],
    inputs: Floats,
) -> ParityBlock:
    """Return the ledger: `embeddings` are each member's, in the order to show them in, of the same images.

    `inputs` are preprocessed images, [N, 3, height, width], to look inside with, tensor by tensor.
    """
    targets = [backend.target for backend in backends]
    simulation = ONNX if any(target.keeps_layers for target in targets) else targets[0]
    return ParityBlock(
        images=len(next(iter(embeddings.values()))),
        members=tuple(embeddings),
        pairs=pair_figures(compare_members(embeddings)),
        layers=_layers(model, simulation, inputs),
        codes=tuple(_codes(model, backend, path(backend.artifact), inputs) for backend in backends),
    )


def simulated_ledger(backends: Sequence[Backend], embeddings: Mapping[str, Floats]) -> ParityBlock:
    """Return the ledger of a model that is only simulated: embeddings alone, for it has neither codes nor a plan."""
    codes = [CodeFigures(artifact=one.artifact, images=0, tensors=0, not_compared=one.no_codes) for one in backends]
    return ParityBlock(
        images=len(next(iter(embeddings.values()))),
        members=tuple(embeddings),
        pairs=pair_figures(compare_members(embeddings)),
        codes=tuple(codes),
    )


def _layers(model: QuantizedModel, target: Target, inputs: Floats) -> LayerFigures:
    return layer_figures(target.name, len(inputs), compare_layers(model, target, inputs))


def compare_layers(model: QuantizedModel, target: Target, inputs: Floats) -> tuple[TensorAgreement, ...]:
    """Compare each tensor that a target holds as codes, and the embedding, with what the float network makes of it."""
    return compare_tensors(side_by_side(model, target, inputs), tensor_sources(model, target))


def _codes(model: QuantizedModel, backend: Backend, artifact: Path, inputs: Floats) -> CodeFigures:
    try:
        return code_figures(backend.artifact, len(inputs), differing_codes(model, backend, artifact, inputs))
    except MeasurementError as error:
        return CodeFigures(artifact=backend.artifact, images=0, tensors=0, not_compared=error.what)


def differing_codes(
    model: QuantizedModel, backend: Backend, artifact: Path, inputs: Floats
) -> tuple[CodeDifference, ...]:
    """Compare the codes inside an artifact with its simulation's.

    Raises:
        MeasurementError: if the artifact's codes cannot be had.
    """
    program = program_of(model, backend.target)
    if not program.tensors:
        raise MeasurementError("all its tensors are float")
    simulated = list(Simulator(program).codes(inputs))
    whole = {name: np.concatenate([codes[name] for codes in simulated]) for name in simulated[0]}
    return compare_codes(whole, backend.codes(artifact, model, inputs))
