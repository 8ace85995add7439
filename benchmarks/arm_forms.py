"""Count what both forms of PReLU execute on ARM processors, and model the cycles that keeps a core busy.

    python benchmarks/arm_forms.py --root ROOT --core "Neoverse N1" --save benchmarks/results/arm_forms.json --table

ROOT holds an aarch64 Python and the emulator: `python tests/arm/arm_root.py` makes it and says where. LLVM's llvm-mc
and llvm-mca, of release 19 or newer, are taken from `--llvm` or from where the shell finds them. Without `--shape`, all
of the package's table are counted, which takes hours. What the figures mean and leave out stands in README.md.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from arm_blocks import Analyser, Block, Core, Runs, count, kinds

from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends.onnx_qdq.measure_forms import copies_of
from qface_toolkit.quantize.forms import TABLES, ConvShape, read_form_tables
from qface_toolkit.quantize.plan import Form

FORMS: tuple[Form, Form] = ("twin", "scaled")
COPIES = (1, 2)
"""Copies of the layer in the two networks whose difference is counted."""

CORES = {
    "Cortex-A72": Core("cortex-a72", "cortex-a72", 3),
    "Neoverse N1": Core("neoverse-n1", "neoverse-n1", 4),
}
"""One without dot products of 8-bit numbers and one with them."""


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
        row: dict[str, Any] = {"shape": astuple(shape)}
        for form in FORMS:
            blocks = one_more(runs, number, form)
            modelled = sum(times * cycles[block] for block, times in blocks.items())
            row[form] = {"cycles": round(modelled), "instructions": kinds(blocks, texts)}
        rows.append(row)
    return rows


def write_table(core: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the package's table for ARM: the cycles of both forms on one core."""
    columns = [field.name for field in fields(ConvShape)] + [f"{form}_cycles" for form in FORMS]
    head = f'{{"machine": "arm", "core": {json.dumps(core)},\n"columns": {json.dumps(columns)},\n"rows": [\n'
    lines = (json.dumps([*row["shape"], *(row[form]["cycles"] for form in FORMS)]) for row in rows)
    TABLES[1].write_text(head + ",\n".join(lines) + "\n]}\n")


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
    shapes = [ConvShape(*map(int, text.split(","))) for text in options.shape or ()] or list(
        read_form_tables()["x86"].rows
    )
    found = json.loads(options.save.read_text()) if options.save.exists() else {}
    for name in options.core:
        found[name] = counted_rows(shapes, options.root.resolve(), CORES[name], Analyser(options.llvm))
        options.save.write_text(json.dumps(found) + "\n")
        print(f"{name}: {len(shapes)} shapes", flush=True)
    if options.table:
        write_table(options.core[-1], found[options.core[-1]])


if __name__ == "__main__":
    main()
