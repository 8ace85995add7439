"""Compare spellings of PReLU in float ONNX files, all against torch's own export: which one float.fast.onnx should use.

    python benchmarks/float_forms.py CHECKPOINT_OR_ARCHITECTURE... --save benchmarks/results/float_forms.json

An architecture's name stands for that network with random weights, BatchNorm statistics of drawings and slopes between
-0.4 and 0.8. Every spelling is tried on all PReLUs, and on one kind of layer with the chosen spelling on the others.
"""

import argparse
import gc
import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from qface_toolkit.backends import Embed
from qface_toolkit.backends._float_files import export_float, write_float
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.backends._profile import inspect_onnx
from qface_toolkit.backends.onnx_qdq._floats import Activation, FloatPrinter, scaled_sum
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.canonical.edit import shape_of
from qface_toolkit.canonical.graph import operation
from qface_toolkit.environment import record_environment, set_determinism
from qface_toolkit.integer.making import float_program
from qface_toolkit.integer.program import Float
from qface_toolkit.models import ARCHITECTURES, FloatModel, from_module, load_model
from qface_toolkit.runtimes.latency import measure_latency, times_faster
from qface_toolkit.scoring.agreement import row_cosines
from qface_toolkit.sources import load_crops
from qface_toolkit.sources._sets import find_set

CHOSEN = "a*z + relu((1-a)*z)"
IMAGES = 16
BUDGET_S = 90.0


def as_it_is(printer: FloatPrinter, one: Float) -> str:
    """Print ONNX's own operator."""
    return printer.graph.node("PRelu", [printer.read(one), _by_channel(printer, printer.slopes(one))])


def larger_of_product(printer: FloatPrinter, one: Float) -> str:
    """Print max(z, a*z) with a product by a constant."""
    product = printer.graph.node("Mul", [printer.read(one), _by_channel(printer, printer.slopes(one))])
    return printer.graph.node("Max", [printer.read(one), product])


def larger_of_convolution(printer: FloatPrinter, one: Float) -> str:
    """Print max(z, a*z) with a 1x1 depthwise convolution."""
    return printer.graph.node("Max", [printer.read(one), printer.scaled(one.source, printer.slopes(one))])


def larger_by_pooling(heights: Mapping[str, int]) -> Activation:
    """Print max(z, a*z) as a concatenation of both images, of these heights, and a max pool over the two."""

    def printed(printer: FloatPrinter, one: Float) -> str:
        both = [printer.read(one), printer.scaled(one.source, printer.slopes(one))]
        joined = printer.graph.node("Concat", both, axis=2)
        return printer.graph.node("MaxPool", [joined], kernel_shape=[2, 1], dilations=[heights[one.output], 1])

    return printed


def sum_with_input(printer: FloatPrinter, one: Float) -> str:
    """Print z + relu((a-1)*z), the product as a 1x1 depthwise convolution."""
    rest = printer.graph.node("Relu", [printer.scaled(one.source, printer.slopes(one) - 1)])
    return printer.graph.node("Add", [printer.read(one), rest])


def products_of_relu(printer: FloatPrinter, one: Float) -> str:
    """Print a*z + (1-a)*relu(z) with products by constants."""
    slopes, graph = printer.slopes(one), printer.graph
    factors = (_by_channel(printer, slopes), _by_channel(printer, 1 - slopes))
    parts = (printer.read(one), graph.node("Relu", [printer.read(one)]))
    return graph.node("Add", [graph.node("Mul", pair) for pair in zip(parts, factors, strict=True)])


def convolution_twice(printer: FloatPrinter, one: Float) -> str:
    """Print conv(x; W) + relu(conv(x; (a-1)*W)): the runtime fuses both operators into the convolutions."""
    rest = printer.convolution(printer.made[one.source], printer.slopes(one) - 1)
    return printer.graph.node("Add", [printer.read(one), printer.graph.node("Relu", [rest])])


def relu_instead(printer: FloatPrinter, one: Float) -> str:
    """Print a ReLU: another function, and the least that any spelling could take."""
    return printer.graph.node("Relu", [printer.read(one)])


FORMS: Mapping[str, Activation] = {
    CHOSEN: scaled_sum,
    "z + relu((a-1)*z)": sum_with_input,
    "a*z + (1-a)*relu(z), Mul": products_of_relu,
    "convolution twice": convolution_twice,
    "Max(z, a*z), Mul": larger_of_product,
    "Max(z, a*z), 1x1 conv": larger_of_convolution,
    "PRelu": as_it_is,
    "Relu (another function)": relu_instead,
}
ALONE = (CHOSEN, "PRelu", "Relu (another function)")
"""Spellings that are not mixed with the chosen one."""


def _by_channel(printer: FloatPrinter, values: npt.NDArray[np.float64]) -> str:
    return printer.graph.constant(values.reshape(-1, 1, 1), np.float32)


def kind_of(before: Float | None) -> str:
    """Return what kind of layer a PReLU stands behind; none makes the image."""
    if before is None or before.name != "conv":
        return "input" if before is None else before.name
    conv = cast(nn.Conv2d, before.module)
    if conv.groups > 1:
        return "depthwise" if conv.kernel_size != (1, 1) else "scale"
    return "pointwise" if conv.kernel_size == (1, 1) else "full"


def only_behind(kind: str, form: Activation) -> Activation:
    """Return the spelling that uses `form` behind one kind of layer and the chosen one elsewhere."""
    return lambda printer, one: (form if kind_of(printer.made.get(one.source)) == kind else scaled_sum)(printer, one)


def candidates(network: fx.GraphModule) -> dict[str, Activation]:
    """Return every spelling to be tried on a canonical network."""
    made = {one.output: one for one in float_program(network)}
    prelus = [one for one in made.values() if one.name == "prelu"]
    kinds = {kind_of(made.get(one.source)) for one in prelus}
    heights = {node.name: shape_of(node)[2] for node in network.graph.nodes if operation(node) == "prelu"}
    forms = {**FORMS, "Concat + MaxPool": larger_by_pooling(heights)}
    mixed = {
        f"{form}, {kind} alone": only_behind(kind, forms[form])
        for kind in sorted(kinds)
        for form in forms
        if form not in ALONE and len(kinds) > 1 and (form != "convolution twice" or kind not in ("add", "concat"))
    }
    everywhere = {name: form for name, form in forms.items() if name != "convolution twice" or kinds <= _CONVOLUTIONS}
    return everywhere | mixed


_CONVOLUTIONS = {"depthwise", "scale", "pointwise", "full"}


def random_model(name: str) -> FloatModel:
    """Return a registered network with random weights that keeps its activations in bounds."""
    torch.manual_seed(0)
    plan = ARCHITECTURES.get(name).published
    network = plan.build().train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = None  # the plain average of all batches, here of one
        if isinstance(layer, nn.PReLU):
            nn.init.uniform_(layer.weight, -0.4, 0.8)
    with torch.no_grad():
        network(torch.from_numpy(images(plan.input_size)))
    return from_module(network, input_size=plan.input_size, name=name)


def images(size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return drawn faces cut or bordered to this size, float32 [16, 3, height, width]."""
    crops = load_crops(find_set("drawings-heldout").open(count=IMAGES)).astype(np.float32)
    crops = np.pad(crops, ((0, 0), (0, 16), (0, 16), (0, 0)), mode="edge")[:, : size[0], : size[1]]
    return np.ascontiguousarray(((crops - 127.5) / 127.5).transpose(0, 3, 1, 2))


def compare(model: FloatModel, folder: Path, rounds: int) -> dict[str, Any]:
    """Print, run and time every spelling of one network; figures by the spelling's name."""
    network = canonicalise(model.network, model.spec.input_size)
    files = {"float.onnx": folder / "float.onnx"}
    files["float.onnx"].write_bytes(export_float(model.network, model.spec, {}))
    for name, form in candidates(network).items():
        files[name] = folder / f"{len(files)}.onnx"
        files[name].write_bytes(write_float(network, model.spec, form).SerializeToString())
    runs = {name: open_onnx(file, threads=1) for name, file in files.items()}
    batch = images(model.spec.input_size)
    calls = {name: partial(run, batch[:1]) for name, run in runs.items()}
    latencies = measure_latency(calls, rounds=rounds, budget_s=BUDGET_S)
    return {
        name: {
            "times_faster": times_faster(latencies["float.onnx"], latencies[name]),
            "p50_ms": latencies[name].p50_ms,
            "cosine_min": lowest_cosine(runs["float.onnx"], run, batch),
            "size_bytes": files[name].stat().st_size,
            "operators": dict(inspect_onnx(files[name]).counts),
        }
        for name, run in runs.items()
    }


def lowest_cosine(reference: Embed, other: Embed, batch: npt.NDArray[np.float32]) -> float:
    """Return the lowest cosine between two files' embeddings."""
    return float(row_cosines(reference(batch), other(batch)).min())


def main() -> None:
    """Compare on the networks named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="+")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--save", type=Path)
    wanted = parser.parse_args()
    set_determinism(0, 1)
    results = {}
    for name in wanted.network:
        model = random_model(name) if name in ARCHITECTURES.names() else load_model(name)
        with tempfile.TemporaryDirectory() as folder:
            results[model.spec.name] = compare(model, Path(folder), wanted.rounds)
        gc.collect()
        print(model.spec.name)
        for form, figures in sorted(results[model.spec.name].items(), key=lambda item: -item[1]["times_faster"]):
            told = f"{figures['times_faster']:.2f}x {figures['p50_ms']:8.2f} ms"
            print(f"  {form:45} {told}  1 - cosine {1 - figures['cosine_min']:.0e}", flush=True)
    if wanted.save:
        environment = record_environment(0, 1).model_dump()
        wanted.save.write_text(json.dumps({"environment": environment, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
