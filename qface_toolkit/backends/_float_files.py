"""The two float files of a result: what they are called, what writes them, and that ONNX Runtime runs them.

float.onnx is the model as torch.onnx exports it, the reference that every ratio in a report is against; float.fast.onnx
the same once more, its PReLUs spelled so that ONNX Runtime runs them fast: the baseline that int8 must beat. Where the
exporter has no form of something, or writes the number of images down as a constant, float.onnx is our own plain form.
"""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import fx, nn

from qface_toolkit.backends._base import Facts, FloatFile
from qface_toolkit.backends._onnx_files import OnnxRuntimeFiles
from qface_toolkit.backends._onnxruntime import ERRORS, open_onnx
from qface_toolkit.backends.onnx_qdq._builder import INPUT, OUTPUT, float_value
from qface_toolkit.backends.onnx_qdq._floats import Activation, FloatPrinter, own_operator, scaled_sum
from qface_toolkit.backends.onnx_qdq.predict import predict_float
from qface_toolkit.canonical.edit import ensure_shapes
from qface_toolkit.canonical.graph import inputs
from qface_toolkit.errors import QFaceError, UnsupportedModel
from qface_toolkit.integer.making import float_program
from qface_toolkit.models import FloatModel, ModelSpec
from qface_toolkit.quantize.groups import GroupForm, fastest_float_form, has_groups
from qface_toolkit.runtimes import FAST_ARTIFACT, FLOAT_ARTIFACT
from qface_toolkit.times import TimeTable, read_table


def export_float_fast(network: fx.GraphModule, spec: ModelSpec, facts: Facts) -> bytes:
    """Return the ONNX file of a canonical network that runs fastest, each layer in its fastest form."""
    ensure_shapes(network, spec.input_size, spec.channels)
    times = read_table()
    groups = {node.name: fastest_float_form(node, times) for node in network.graph.nodes if has_groups(node)}
    return export_plain(network, spec, facts, scaled_sum, groups)


def export_plain(
    network: fx.GraphModule,
    spec: ModelSpec,
    facts: Facts,
    prelu: Activation = own_operator,
    groups: Mapping[str, GroupForm] | None = None,
) -> bytes:
    """Return the ONNX file of a canonical network: "input" [N, C, height, width] to "embedding" [N, D], any N."""
    written = write_float(network, spec, prelu, groups)
    onnx.checker.check_model(written)
    onnx.helper.set_model_props(written, dict(facts))
    content: bytes = written.SerializeToString(deterministic=True)
    return content


def write_float(
    network: fx.GraphModule,
    spec: ModelSpec,
    prelu: Activation = scaled_sum,
    groups: Mapping[str, GroupForm] | None = None,
) -> onnx.ModelProto:
    """Return the ONNX form of a canonical network, each PReLU printed by `prelu`, its convolutions of groups so."""
    printer = FloatPrinter(prelu, groups=groups)
    entering, *_, last = network.graph.nodes
    printer.values[entering.name] = INPUT
    for one in float_program(network):
        printer.print(one)
    embedding = printer.values[inputs(last)[0].name]
    model = printer.graph.model(embedding, float_value(spec), spec.embedding_size)
    _name_layers(model.graph, {short: layer for layer, short in printer.values.items() if layer != entering.name})
    return model


def _name_layers(graph: onnx.GraphProto, layers: Mapping[str, str]) -> None:
    """Call the tensors that end layers as the layers are called, so that a file's times can be told by layer."""
    taken = {*layers.values(), INPUT, OUTPUT}
    made = {name for node in graph.node for name in node.output} | {tensor.name for tensor in graph.initializer}
    names = {name: layers.get(name, f"{name}_" if name in taken else name) for name in made}
    names |= {layer: layer for layer in (INPUT, OUTPUT)}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]


_OPSET = 17
_STDERR = 2
_SAME = 1e-3
"""Of the largest number of an embedding; a file that was made for another number of images is off by far more."""


def export_float(network: nn.Module, spec: ModelSpec, facts: Facts) -> bytes:
    """Return the ONNX file of a float network: "input" [N, C, height, width] to "embedding" [N, D], any N.

    torch's tracing exporter is used: its file is smaller than the newer exporter's, so ratios are not flattered.
    """
    buffer = io.BytesIO()
    probe = torch.zeros(2, *spec.input_shape)
    try:
        with warnings.catch_warnings(), torch.no_grad(), _by_parts(), _muted():
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


@contextlib.contextmanager
def _by_parts() -> Iterator[None]:
    """Let torch run encoders by their parts, which alone have a form in ONNX."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Keep what torch and ONNX Runtime print of what they cannot do, beside raising it, off the screen."""
    torch._C._jit_set_onnx_log_output_stream("stderr")
    sys.stderr.flush()
    kept = os.dup(_STDERR)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), _STDERR)
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)


def _takes_any_number(content: bytes, spec: ModelSpec) -> bool:
    """Tell whether an exported file makes the same of an image alone and among others, without branches on sizes."""
    nodes = onnx.load_from_string(content).graph.node
    if any(attribute.type == onnx.AttributeProto.GRAPH for node in nodes for attribute in node.attribute):
        return False
    images = np.random.default_rng(0).standard_normal((3, *spec.input_shape), dtype=np.float32)
    try:
        with _muted():
            embed = open_onnx(Path(FLOAT_ARTIFACT), 1, content=content)
            among, alone = embed(images)[:1], embed(images[:1])
    except (QFaceError, *ERRORS):
        return False
    return bool(abs(among - alone).max() <= _SAME * abs(alone).max())


class _Exported(OnnxRuntimeFiles, FloatFile):
    """The network as torch.onnx exports it."""

    artifact = FLOAT_ARTIFACT

    def write(self, model: FloatModel, canonical: fx.GraphModule, facts: Facts) -> bytes:
        """Return the export of the network; where there is none for any number of images, its canonical form."""
        with contextlib.suppress(UnsupportedModel):
            content = export_float(model.network, model.spec, facts)
            if _takes_any_number(content, model.spec):
                return content
        return export_plain(canonical, model.spec, facts)


class _Fast(OnnxRuntimeFiles, FloatFile):
    """The canonical network, written for speed."""

    artifact = FAST_ARTIFACT

    def write(self, model: FloatModel, canonical: fx.GraphModule, facts: Facts) -> bytes:
        """Return our own form of the canonical network."""
        return export_float_fast(canonical, model.spec, facts)

    def layer_names(self, canonical: fx.GraphModule) -> Mapping[str, str]:
        """Return the names of the layers: the tensors that end them are called so."""
        *_, last = canonical.graph.nodes
        return {node.name: node.name for node in canonical.graph.nodes} | {OUTPUT: inputs(last)[0].name}

    def predict(self, canonical: fx.GraphModule, spec: ModelSpec, times: TimeTable) -> Mapping[str, float]:
        """Return what the table of operator times gives."""
        return predict_float(canonical, spec, times).layers


FLOAT_FILES: tuple[FloatFile, ...] = (_Exported(), _Fast())
