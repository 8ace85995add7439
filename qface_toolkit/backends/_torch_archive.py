"""Look into a TorchScript archive without trusting it, and see which of its operators work on codes.

TorchScript runs no Python, but its own language has operators that write files, and loading may run it. So the text of
the program is read first: it may call what our archives call, and nothing else.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qface_toolkit.backends._base import Content, ImageInput
from qface_toolkit.errors import ArtifactError
from qface_toolkit.models import LARGEST_SIDE, is_size
from qface_toolkit.runtimes.fusion import Arithmetic, Fusion, Layer, Operator, measure_fusion
from qface_toolkit.untrusted.formats import script_advice
from qface_toolkit.untrusted.reading import read_file, stored_records

LARGEST_BYTES = 1 << 30
LARGEST_RECORD = 16 << 20
"""Of the records that are text: the program, and what the archive says about itself."""
_OURS = "give an archive that `qface compress` or `qface export` wrote"
_CALLEE = re.compile(r"([\w.]+)\s*\(")
_LOOP = re.compile(r"\b(?:while|for)\b")
_CLASS = re.compile(r"^class \w+\(Module\):", re.MULTILINE)
_ALLOWED = re.compile(
    r"forward|annotate|ops\.quantized\.\w+|torch\.(?:quantize_per_tensor|dequantize|flatten|reshape|cat|relu|hardtanh|"
    r"clamp|sigmoid|hardsigmoid|hardswish|leaky_relu|prelu|add|mul|mean|max_pool2d|avg_pool2d|adaptive_avg_pool2d|"
    r"conv2d|_convolution|linear|linalg_vector_norm|clamp_min|expand_as|div|"
    r"slice|permute|pad|constant_pad_nd|upsample_nearest2d|upsample_bilinear2d|pixel_shuffle|chunk|split|select|expand|"
    r"abs|sqrt|rsqrt|square|reciprocal|exp|log|erf|tanh|softplus|gelu|elu|pow|clamp_max|softmax|sum|amax|matmul|sub|rsub|"
    r"maximum|minimum|neg|index_select)_?"
)
_MOVES = ("aten::flatten", "aten::reshape", "aten::cat", "aten::quantize_per_tensor", "aten::dequantize")
_KINDS = {"conv2d": "Conv", "conv1d": "Conv", "_convolution": "Conv", "linear": "Gemm"}
"""Operator, without its namespace and a fused ReLU, to the name that ONNX has for the layer."""


def read_archive(path: Path, extra_file: str) -> Content:
    """Return an archive of ours, having read its program and run nothing; its facts say its engine, too.

    Raises:
        ArtifactError: if it is missing, damaged, too large, not ours, or calls what ours never do.
    """
    data = read_file(path, LARGEST_BYTES, noun="archive", fix="check the path")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            texts = _texts(archive, len(data))
        facts = next(json.loads(text) for name, text in texts.items() if name.endswith(f"extra/{extra_file}"))
        told = {"engine": str(facts["engine"])} | {str(key): str(value) for key, value in facts.items()}
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        RuntimeError,
        LookupError,
        TypeError,
        StopIteration,
        RecursionError,
    ) as error:
        what, fix = "this is no TorchScript archive of ours", f"{_OURS}; of a float program, {script_advice(path)}"
        raise ArtifactError(what, where=str(path), fix=fix) from error
    for name, text in texts.items():
        if name.endswith(".py") and _LOOP.search(text):
            raise ArtifactError("the program has loops, and ours have none", where=str(path), fix=_OURS)
        calls = _CALLEE.findall(_CLASS.sub("", text)) if name.endswith(".py") else []
        strangers = sorted({call for call in calls if not _ALLOWED.fullmatch(call)})
        if strangers:
            what = f"the program calls what no archive of ours does: {', '.join(strangers[:4])[:200]}"
            raise ArtifactError(what, where=str(path), fix=_OURS + "; do not load this one")
    return Content(data, hashlib.sha256(data).hexdigest(), told)


def stated_input(facts: Mapping[str, str], path: Path) -> ImageInput:
    """Return what an archive says that it takes.

    Raises:
        ArtifactError: if it does not say it, or says no (height, width) of a face crop.
    """
    parts = [part.strip() for part in facts.get("qface.input_size", "").strip("[]").split(",")]
    numbers = [int(part) for part in parts if part.isdecimal() and len(part) <= len(str(LARGEST_SIDE))]
    if not is_size(numbers):
        raise ArtifactError("the archive does not say how large its input is", where=str(path), fix="make it again")
    return ImageInput((numbers[0], numbers[1]), channels=1 if facts.get("qface.color") == "gray" else 3)


def _texts(archive: zipfile.ZipFile, held: int) -> dict[str, str]:
    """Return the records that are text, once their sizes are known to be true: torch compresses nothing."""
    records = stored_records(archive, held)
    wanted = [one for one in records if one.filename.endswith(".py") or "/extra/" in one.filename]
    if any(record.file_size > LARGEST_RECORD for record in wanted):
        raise ValueError("too large")
    return {record.filename: archive.read(record).decode() for record in wanted}


def read_fusion(graph: Any) -> Fusion:  # noqa: ANN401 - torch ships no type for it
    """Return which operators of a frozen graph work on codes; torch fuses nothing more at run time. No times."""
    codes: set[str] = set()
    operators, layers = [], []
    for place, node in enumerate(graph.nodes()):
        kind = node.kind()
        reads, writes = ([value.debugName() for value in values] for values in (node.inputs(), node.outputs()))
        makes_codes = kind == "aten::quantize_per_tensor" or kind.startswith("quantized::")
        if makes_codes or (kind != "aten::dequantize" and codes.intersection(reads)):
            codes.update(writes)
        if not kind.startswith(("aten::", "quantized::")):
            continue
        name = f"{kind}#{place}"
        arithmetic = _arithmetic(kind, on_codes=bool(codes.intersection(writes)))
        operators.append(Operator(kind, name, arithmetic, tuple(reads), tuple(writes), source=name))
        layer = _KINDS.get(kind.partition("::")[2].removesuffix("_relu"))
        layers += [Layer(layer, name)] if layer else []
    kinds: Mapping[str, str] = {one.name: one.kind for one in operators}
    return measure_fusion(
        operators, layers, lambda name: f"{kinds[name]} works on float tensors here", quantized=bool(codes)
    )


def _arithmetic(kind: str, *, on_codes: bool) -> Arithmetic:
    if kind in _MOVES:
        return "move"
    return "integer" if on_codes else "float"
