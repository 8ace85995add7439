"""What golden vectors hold of a file that a backend wrote: what it must give, and what must be inside it."""

from collections.abc import Iterator

import numpy as np

from qface_toolkit.backends import Backend
from qface_toolkit.integer.exactness import inexact_values
from qface_toolkit.integer.making import program_of
from qface_toolkit.integer.simulate import Simulator
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.target import Target
from qface_toolkit.result.made import Arrays, Floats
from qface_toolkit.verifier import About, Machine, Tensor, about, codes, elsewhere, sketch

_BATCH = 8


def expected_of(backend: Backend, model: QuantizedModel, inputs: Floats) -> Arrays:
    """Return what an artifact makes of inputs in the integer arithmetic of its target, wherever it runs.

    Behind the names that `verifier` gives stand how it computes, and what the tensors are whose codes can be read in
    its file.
    """
    target, file = backend.target, backend.artifact
    known = _about(backend, model)
    arrays: Arrays = {about(file): known.stored()}
    for row, place in _rows(file, target, simulates=backend.runtime.simulates):
        embeddings, sketches = zip(*_simulated(model, place, known.tensors, inputs), strict=True)
        arrays[row] = np.concatenate(embeddings)
        if known.tensors:
            arrays[codes(row)] = np.concatenate(sketches)
    return arrays


def _rows(file: str, target: Target, *, simulates: bool) -> Iterator[tuple[str, Target]]:
    """Yield the names of what a file makes on each kind of processor where it rounds otherwise, and its target there.

    What `simulates` a target computes the same everywhere.
    """
    yield file, target
    if target.foreign is not None and not simulates:
        abroad: Machine = "x86" if target.machine == "arm" else "arm"
        yield elsewhere(file, abroad), target.on(abroad)


def _about(backend: Backend, model: QuantizedModel) -> About:
    program, names = program_of(model, backend.target), backend.code_names(model)
    inexact = inexact_values(program, names)
    return About(
        runtime=backend.runtime.name,
        machine=backend.target.machine,
        integers=program.embedding not in inexact_values(program),
        vnni=backend.target.needs_vnni and model.deployment.vnni,
        picks_order=backend.target.picks_order,
        tensors=tuple(Tensor(tensor, output, tensor not in inexact) for tensor, output in names.items()),
    )


def _simulated(
    model: QuantizedModel, target: Target, tensors: tuple[Tensor, ...], inputs: Floats
) -> Iterator[tuple[Floats, Floats]]:
    """Yield for each batch of images the embeddings [N, D], and sketches of the tensors [N, 4 x tensors]."""
    simulator = Simulator(program_of(model, target))
    last = simulator.program.embedding
    for values in simulator.runs(inputs, _BATCH):
        embeddings: Floats = simulator.restored(last, values[last]).numpy()
        sketches = [sketch(values[tensor.name].numpy().astype(np.uint8)) for tensor in tensors]
        yield embeddings, np.concatenate(sketches or [embeddings[:, :0]], axis=1)
