"""Count what both forms of PReLU execute on ARM processors, and model the cycles that keeps a core busy.

    python benchmarks/arm_forms.py --root ROOT --core "Neoverse N1" --save benchmarks/results/arm_forms.json --table

ROOT holds an aarch64 Python and the emulator: `python tests/arm/arm_root.py` makes it and says where. LLVM's llvm-mc
and llvm-mca, of release 19 or newer, are taken from `--llvm` or from where the shell finds them. Without `--shape`, all
of the package's table are counted, which takes hours. What the figures mean and leave out stands in README.md.
"""

import argparse
import copy
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from arm_blocks import Analyser, Block, Core, Runs, count, kinds
from torch import nn

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.forms import CYCLES, FormCycles, choices, read_form_tables
from qface_toolkit.quantize.model import QuantizedModel, new_model
from qface_toolkit.quantize.plan import Form, everywhere
from qface_toolkit.quantize.scheme import Range
from qface_toolkit.times import ConvShape

COLUMNS = ("inputs", "outputs", "kernel", "stride", "groups", "height", "width")
"""Sizes of a square convolution."""
FORMS: tuple[Form, Form] = ("twin", "scaled")
COPIES = (1, 2)
"""Copies of the layer in the two networks whose difference is counted."""

CORES = {
    "Cortex-A72": Core("cortex-a72", "cortex-a72", 3),
    "Neoverse N1": Core("neoverse-n1", "neoverse-n1", 4),
}
"""One without dot products of 8-bit numbers and one with them."""


class Copies(nn.Module):
    """Several copies of one layer side by side, each pooled so that its output costs little to keep."""

    def __init__(self, shape: ConvShape, copies: int) -> None:
        super().__init__()
        self.stem = nn.Identity() if shape.inputs == 3 else nn.Conv2d(3, shape.inputs, 1)
        layer = nn.Sequential(
            nn.Conv2d(shape.inputs, shape.outputs, shape.kernel, shape.stride, shape.kernel // 2, groups=shape.groups),
            nn.PReLU(shape.outputs),
        )
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(copies))
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return torch.flatten(torch.cat([self.pool(layer(x)) for layer in self.layers], 1), 1)


def copies_of(shape: ConvShape, form: Form, copies: int) -> QuantizedModel:
    """Return a model of several copies of a convolution and its PReLU in one form, with any ranges.

    What it takes more than the same with fewer copies, the layers take.
    """
    torch.manual_seed(0)
    input_size = shape.height * shape.stride, shape.width * shape.stride
    network = canonicalise(Copies(shape, copies), input_size)
    model = new_model(network, ModelSpec("layer", input_size, copies * shape.outputs))
    return model.with_forms(everywhere({node.name: form for node in choices(model)})).with_ranges(
        {owner: Range(-3.0, 3.0) for owner in model.plan.owners()}
    )


def sizes_of(shape: ConvShape) -> list[int]:
    """Return the sizes of a square convolution, in the order of COLUMNS."""
    return [getattr(shape, name) for name in COLUMNS]


def shape_of_sizes(sizes: Sequence[int]) -> ConvShape:
    """Return a square convolution from its sizes, in the order of COLUMNS."""
    return ConvShape(*sizes[:3], *sizes[2:])


def write_files(shapes: Sequence[ConvShape], folder: Path) -> None:
    """Write the ARM file of each network."""
    for number, shape in enumerate(shapes):
        for form in FORMS:
            for copies in COPIES:
                file = BACKENDS.get("onnx-arm").lower(copies_of(shape, form, copies), {})
                (folder / _name(number, form, copies)).write_bytes(file)


def _name(number: int, form: Form, copies: int) -> str:
    return f"{number:03d}-{form}-{copies}.onnx"


def one_more(runs: Runs, number: int, form: Form) -> Mapping[Block, int]:
    """Return how often each block runs for one more copy of a layer."""
    few, many = (runs[_name(number, form, copies)] for copies in COPIES)
    more = Counter(many)
    more.subtract(few)
    return more


def counted_rows(shapes: Sequence[ConvShape], root: Path, core: Core, analyser: Analyser) -> list[dict[str, Any]]:
    """Return for each shape the cycles and the instructions by kind that either form takes on a core."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as optimised:
        write_files(shapes, Path(folder))
        runs = count(root, core, Path(folder), Path(optimised))
    texts, cycles = analyser.texts(runs), analyser.cycles(runs, core)
    rows = []
    for number, shape in enumerate(shapes):
        row: dict[str, Any] = {"shape": sizes_of(shape)}
        for form in FORMS:
            blocks = one_more(runs, number, form)
            modelled = sum(times * cycles[block] for block, times in blocks.items())
            row[form] = {"cycles": round(modelled), "instructions": kinds(blocks, texts)}
        rows.append(row)
    return rows


def write_table(core: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the package's table for ARM: the cycles of both forms on one core."""
    columns = [*COLUMNS, *(f"{form}_cycles" for form in FORMS)]
    head = f'{{"machine": "arm", "core": {json.dumps(core)},\n"columns": {json.dumps(columns)},\n"rows": [\n'
    lines = (json.dumps([*row["shape"], *(row[form]["cycles"] for form in FORMS)]) for row in rows)
    CYCLES.write_text(head + ",\n".join(lines) + "\n]}\n")


def main() -> None:
    """Count, model and write; cores that the file has already stay in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--llvm", type=Path)
    parser.add_argument("--core", choices=CORES, action="append", required=True)
    parser.add_argument("--shape", action="append", metavar="INPUTS,OUTPUTS,KERNEL,STRIDE,GROUPS,HEIGHT,WIDTH")
    parser.add_argument("--save", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="make the last core's the table of the package")
    options = parser.parse_args()
    counted = read_form_tables()["arm"]
    assert isinstance(counted, FormCycles), "the package's own"
    shapes = [shape_of_sizes(list(map(int, text.split(",")))) for text in options.shape or ()] or list(counted.rows)
    found = json.loads(options.save.read_text()) if options.save.exists() else {}
    for name in options.core:
        found[name] = counted_rows(shapes, options.root.resolve(), CORES[name], Analyser(options.llvm))
        options.save.write_text(json.dumps(found) + "\n")
        print(f"{name}: {len(shapes)} shapes", flush=True)
    if options.table:
        write_table(options.core[-1], found[options.core[-1]])


if __name__ == "__main__":
    main()
