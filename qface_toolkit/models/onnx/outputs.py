"""Which of a network's outputs is the embedding, and that as vectors [N, D], whatever shape it leaves in."""

import math
from collections.abc import Mapping

from qface_toolkit.errors import CheckpointError, QFaceError
from qface_toolkit.models._spec import SHORTEST_EMBEDDING
from qface_toolkit.models.onnx.graph import Network
from qface_toolkit.models.onnx.views import Activation, Value
from qface_toolkit.untrusted.reading import printable

_LONGEST_EMBEDDING = 4096
_CUT = "cut the graph at the embedding: --set model.output=NAME, NAME being what that node returns"


def choose_output(
    network: Network, values: Mapping[str, Value | QFaceError | None]
) -> tuple[Activation, tuple[str, ...]]:
    """Return the embedding as vectors [N, D], and what is worth knowing of the choice.

    It is the only output, or the only one that can be: one number an image is a length or a score. Of a matrix and
    others it is the matrix.

    Raises:
        CheckpointError: if none can be, or several can.
    """
    if len(values) == 1:
        return _as_vectors(network, next(iter(values.values())))
    able = {name: value for name, value in values.items() if _size(network, value)}
    matrices = {name: value for name, value in able.items() if isinstance(value, Activation) and len(value.dims) == 2}
    chosen = matrices if len(matrices) == 1 else able
    if len(chosen) == 1:
        (name, value), *_ = chosen.items()
        vectors, notes = _as_vectors(network, value)
        only = "only output [N, D]" if chosen is matrices else "only output that can be an embedding"
        return vectors, (f"took the {only}, {printable(name, 40)!r}, of {len(values)}", *notes)
    failed = [value for value in values.values() if isinstance(value, QFaceError)]
    if not able and failed:
        raise failed[0]
    shown = ", ".join(f"{printable(name, 40)!r} {_shown(value)}" for name, value in list(values.items())[:8])
    what = "more than one can be the embedding" if able else "none is an embedding [N, D]"
    raise CheckpointError(
        f"the graph has {len(values)} outputs ({shown}), and {what}",
        fix="say which: --set model.output=NAME; NAME may also be what a node inside the graph returns",
    )


def _size(network: Network, value: Value | QFaceError | None) -> int:
    """Return how many numbers an embedding has, 0 if this is none."""
    if not isinstance(value, Activation) or value.node is network.image.node:
        return 0
    size, whole = max(value.shape, default=0), value.place in (0, None) and value.many == 1
    embeds = whole and math.prod(value.shape) == size and SHORTEST_EMBEDDING <= size <= _LONGEST_EMBEDDING
    return size if embeds else 0


def _shown(value: Value | QFaceError | None) -> str:
    if isinstance(value, QFaceError):
        return f"(not read: {value.what})"
    return value.shown() if isinstance(value, Activation) else "(a constant)"


def _as_vectors(network: Network, output: Value | QFaceError | None) -> tuple[Activation, tuple[str, ...]]:
    """Return an output as vectors [N, D]; pictures of one pixel are such."""
    if isinstance(output, QFaceError):
        raise output
    if not isinstance(output, Activation) or output.node is network.image.node:
        raise CheckpointError("the output is not computed from the image", fix=_CUT)
    size = _size(network, output)
    if not size:
        raise CheckpointError(
            f"the output has the shape {output.shown()}, which is no embedding [N, D] of "
            f"{SHORTEST_EMBEDDING} to {_LONGEST_EMBEDDING} numbers: this is a detector, a classifier, an estimator of "
            "ages, or another kind of network",
            fix=_CUT,
        )
    vectors = network.settled(network.reshaped(output, (size,)))
    return vectors, () if len(output.shape) == 1 else (f"flattened the output {output.shown()} to vectors",)
