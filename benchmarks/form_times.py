"""Measure both forms of PReLU for every shape of the known architectures and write the table that the package ships.

    python benchmarks/form_times.py

Run it on a quiet machine with VNNI; the table decides what every later compression writes.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict

import torch

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.environment import record_environment
from qface_toolkit.models import ARCHITECTURES, ModelSpec
from qface_toolkit.quantize.forms import TABLES, ConvShape, choices, shape_before
from qface_toolkit.quantize.model import new_model


def known_shapes() -> Iterator[ConvShape]:
    """Yield the convolution before each PReLU of each architecture."""
    for name in ARCHITECTURES.names():
        plan = ARCHITECTURES.get(name).published
        torch.manual_seed(0)
        network = canonicalise(plan.build(), plan.input_size)
        model = new_model(network, ModelSpec(name, plan.input_size, plan.embedding_size))
        yield from (shape_before(node) for node in choices(model))


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    shapes = sorted(set(known_shapes()), key=lambda shape: tuple(asdict(shape).values()))
    times = BACKENDS.get("onnx-x86").time_forms(shapes, lambda done, total: print(f"\r{done} of {total}", end=""))
    assert times is not None, "ONNX files have two forms"
    environment = record_environment(0, 1).model_dump(mode="json")
    rows = ",\n".join(json.dumps(row) for row in times.as_plain())
    columns = json.dumps(["inputs", "outputs", "kernel", "stride", "groups", "height", "width", "twin_us", "scaled_us"])
    head = f'{{"machine": "x86",\n"environment": {json.dumps(environment)},\n"columns": {columns},\n"rows": [\n'
    TABLES[0].write_text(f"{head}{rows}\n]}}\n")
    print(f"\n{len(shapes)} shapes in {TABLES[0]}")


if __name__ == "__main__":
    main()
