"""The float model as torch.onnx exports it: the reference that every ratio in a report is against."""

import io
import warnings

import onnx
import torch
from torch import nn

from qface_toolkit.backends._base import Facts
from qface_toolkit.errors import UnsupportedModel
from qface_toolkit.models import ModelSpec

_OPSET = 17


def export_float(network: nn.Module, spec: ModelSpec, facts: Facts) -> bytes:
    """Return the ONNX file of a float network: "input" [N, 3, height, width] to "embedding" [N, D], any N.

    torch's tracing exporter is used: its file is smaller than the newer exporter's, so ratios are not flattered.
    """
    buffer = io.BytesIO()
    probe = torch.zeros(2, 3, *spec.input_size)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network.eval(),
                (probe,),
                buffer,  # type: ignore[arg-type]  # the tracing exporter takes a buffer too
                dynamo=False,
                opset_version=_OPSET,
                input_names=["input"],
                output_names=["embedding"],
                dynamic_axes={"input": {0: "batch"}, "embedding": {0: "batch"}},
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise UnsupportedModel(f"torch.onnx cannot export the float network: {error}", where=spec.name) from error
    model = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(model, dict(facts))
    content: bytes = model.SerializeToString(deterministic=True)
    return content
