"""Under which names all of a report calls the layers of a file, whose own names are a letter or two."""

from qface_toolkit.backends.onnx_qdq._tensors import CodeType
from qface_toolkit.backends.onnx_qdq.writer import code_names, value_names
from qface_toolkit.integer.tensors import embedding_name
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import Target

OUTPUT = "embedding"
"""What every file calls its output."""


def layer_names(model: QuantizedModel, target: Target, code_type: CodeType) -> dict[str, str]:
    """Return which tensor of a model's file ends which layer of its network."""
    names = {OUTPUT: embedding_name(model)}
    for tensor, name in code_names(model, code_type).items():
        names.setdefault(name, tensor)
    for tensor, name in value_names(model, target, code_type).items():
        if model.plan.in_float(tensor, target.family):
            names.setdefault(name, tensor)
    return names
