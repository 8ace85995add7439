"""Imports point one way, torch.ao stands in one file, and what answers `--help` never loads torch."""

import ast
import functools
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qface_toolkit

ROOT = Path(qface_toolkit.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LAYERS = (
    {"__main__"},
    {"cli"},
    {"pipeline"},
    {"evidence", "gate"},
    {"result"},
    {"methods", "backends", "report", "evaluation"},
    {"analysis"},
    {"training"},
    {"scoring"},
    {"datasets"},
    {"sources", "integer"},
    {"quantize"},
    {"canonical"},
    {"models"},
    {"recipe", "ranks", "runtimes"},
    {"environment"},
    {"_process", "framing", "registry", "scale", "times"},
    {"untrusted"},
    {"errors", "verifier"},
    {"__init__"},
)
TORCH_AO = re.compile(r"(torch\.)?(ao|quantization|nn\.(quantized|intrinsic|qat|quantizable))(\.|$)|nn\.q\w+$")
"""Names that stand for it, older ones and those behind `from torch import nn` included."""
RANKS = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}


@functools.cache
def imported(file):
    """Return the dotted names of every module that a file imports, wherever in the file it does so."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names |= {f"{node.value.id}.{node.attr}"}
    return names


MODULES = {".".join(("qface_toolkit", *file.relative_to(ROOT).with_suffix("").parts)): file for file in FILES}


def part_of(module):
    """Return the folder or top-level file that a module of ours belongs to."""
    return module.split(".")[1]


def upwards(module):
    """Return what a module imports that lies above it, or beside it in another room."""
    ours = [name for name in imported(MODULES[module]) if name in MODULES or f"{name}.__init__" in MODULES]
    own = part_of(module)
    # The package's own file is the public face: it may name what lies below, lazily.
    targets = {name: part_of(f"{name}.__init__") for name in ours if own != "__init__"}
    return [name for name, target in targets.items() if RANKS[own] >= RANKS[target] and own != target]


def test_imports_point_one_way():
    assert {module: wrong for module in MODULES if (wrong := upwards(module))} == {}


def test_no_modules_import_each_other():
    graph = {module: imported(file) & MODULES.keys() - {module} for module, file in MODULES.items()}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_torch_ao_stands_in_one_file():
    uses = [module for module in MODULES if any(TORCH_AO.match(name) for name in imported(MODULES[module]))]
    assert uses == ["qface_toolkit.quantize.fx"]


@pytest.mark.parametrize(
    "module", ["qface_toolkit", "qface_toolkit.cli", "qface_toolkit.report", "qface_toolkit.recipe"]
)
def test_importing_loads_no_torch(module):
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def private_imports(module):
    """Return the rooms that a module reaches into: a name with an underscore below another room's own folder."""
    for name in imported(MODULES[module]):
        _, _, *below = name.split(".") if name.startswith("qface_toolkit.") else ("", "")
        if any(part.startswith("_") and part != "__init__" for part in below) and part_of(name) != part_of(module):
            yield part_of(name)


def test_no_room_reaches_into_another():
    reached = {module: rooms for module in MODULES if (rooms := set(private_imports(module)))}
    assert reached == {}, "use what they offer to other rooms"
