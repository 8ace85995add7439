"""Weigh what a job wrote: what each file takes on a disk, in a package, as papers count, and to be loaded."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from qface_toolkit.backends import BACKENDS, float_files
from qface_toolkit.evidence.load import Load, measure_loads
from qface_toolkit.evidence.size import compressed_bytes, measure_size, nominal_bytes, payload_bytes, size_ratio
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.target import Target

FLOAT_BITS = 32
LOADS = 3
"""Processes that each file is loaded in; a small file takes some 0.15 s in each."""
NOT_LOADED = "loading is measured in ONNX Runtime only"


def weighed(file: Path, float_file: Path) -> dict[str, Any]:
    """Return the bytes of a file on the disk, in a package and without its graph, as a report has them."""
    size = measure_size(file)
    return {
        "size_bytes": size.size_bytes,
        "size_ratio": size_ratio(measure_size(float_file), size),
        "payload_bytes": payload_bytes(file),
        "compressed_bytes": compressed_bytes(file),
    }


def nominal(model: QuantizedModel, target: Target | None = None) -> dict[str, Any]:
    """Return the size that papers would give for a target, and the mean bits of a parameter; float without a target.

    The parameters are those of the network with BatchNorm folded, each at the width of the weights of its layer.
    """
    layers = [(count, FLOAT_BITS if target is None else _bits(model, node, target)) for node, count in _counted(model)]
    parameters = sum(count for count, _ in layers)
    mean = sum(count * bits for count, bits in layers) / parameters if parameters else None
    return {"nominal_bytes": nominal_bytes(layers), "weight_bits_mean": mean}


def loads(path: Callable[[str], Path], backends: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return what loading takes, by the files' names: figures of a report, or why there are none."""
    chosen = [BACKENDS.get(name) for name in backends]
    told: dict[str, dict[str, Any]] = {one.artifact: {"load_missing": NOT_LOADED} for one in chosen}
    options = {one.artifact: one.loading for one in float_files()} | {one.artifact: one.loading for one in chosen}
    files = {name: path(name) for name, wanted in options.items() if wanted is not None}
    found = measure_loads({file: options[name] or {} for name, file in files.items()}, rounds=LOADS)
    return told | {name: _told(found[file]) for name, file in files.items()}


def _told(load: Load | str) -> dict[str, Any]:
    if isinstance(load, str):
        return {"load_missing": load}
    return {"load_ms": load.p50_ms, "load_memory_bytes": load.peak_bytes}


def _bits(model: QuantizedModel, node: str, target: Target) -> int:
    return FLOAT_BITS if model.plan.in_float(node, target) else model.scheme.weight_bits(node)


def _counted(model: QuantizedModel) -> Iterator[tuple[str, int]]:
    """Yield the nodes that own parameters, and how many; a module that several nodes share is the first one's."""
    seen: set[str] = set()
    for node in model.network.graph.nodes:
        if node.op == "call_module" and node.target not in seen:
            seen.add(node.target)
            count = sum(parameter.numel() for parameter in model.network.get_submodule(node.target).parameters())
            if count:
                yield node.name, count
