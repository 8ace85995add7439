"""Read the codes inside a QDQ file, by letting a copy of the very file return them too."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from qface_toolkit.backends._onnxruntime import open_onnx, open_outputs
from qface_toolkit.backends.onnx_qdq._builder import CodeType
from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.parity import Codes


def read_onnx_codes(
    artifact: Path, names: Mapping[str, str], code_type: CodeType, inputs: npt.NDArray[np.float32]
) -> dict[str, Codes]:
    """Return the codes of tensors, as unsigned codes count, that a file computes from inputs [N, C, height, width].

    `names` says what the file calls the codes of each tensor. A convolution becomes an integer kernel only if its float
    output stays inside; codes are free to leave the graph, and what runs stays the same.

    Raises:
        MeasurementError: if the file does not hold the codes, or if reading them changes the embeddings.
    """
    signed = code_type.offset != 0
    copy, read = with_outputs(onnx.load(artifact), names, code_type), list(dict.fromkeys(names.values()))
    embedding, *found = open_outputs(artifact, copy.SerializeToString(), threads=1, signed_allowed=signed)(inputs)
    if not np.array_equal(embedding, open_onnx(artifact, threads=1, signed_allowed=signed)(inputs)):
        raise MeasurementError("the file computes something else once its tensors are looked at", where=str(artifact))
    unsigned = [(codes.astype(np.int16) - code_type.offset).astype(np.uint8) for codes in found]
    by_name = dict(zip(read, unsigned, strict=True))
    return {tensor: by_name[name] for tensor, name in names.items()}


def with_outputs(model: onnx.ModelProto, names: Mapping[str, str], code_type: CodeType) -> onnx.ModelProto:
    """Return a model that returns these codes behind the embedding.

    Raises:
        MeasurementError: if it does not hold one of them.
    """
    made = {output for node in model.graph.node for output in node.output}
    missing = [tensor for tensor, name in names.items() if name not in made]
    if missing:
        raise MeasurementError(f"the file has no codes for {', '.join(missing[:5])}")
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(code_type.dtype))
    for name in dict.fromkeys(names.values()):
        model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    return model
