#!/usr/bin/env python3
"""Verify a result on the machine where it will run: are its files what was written, and do they compute what they must.

    python3 verify.py [DIR] [--json]

This one file is all it takes: Python 3.9 or newer, numpy and onnxruntime. Every result holds a copy, `verify.py`, which
looks at the ONNX files; `qface verify` judges by the same functions and looks at torch's and OpenVINO's, too.
Exit code 0 if something runs here, all of it as it must, and nothing is damaged; otherwise 1.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import json
import math
import platform
import re
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

try:
    import numpy as np
    import numpy.typing as npt
except ImportError as error:
    raise SystemExit(f"{error}: pip install numpy onnxruntime") from None

Floats = npt.NDArray[np.float32]
Machine = Literal["x86", "arm"]
Verdict = Literal["exact", "agrees", "differs", "cannot run", "damaged", "unknown"]

MANIFEST, GOLDEN = "manifest.json", "golden.npz"
INPUTS, FLOAT, IMAGE = "inputs", "float", "image"
DOUBLE = "float@double"
"""What the float model gives in double precision."""
FLOAT_FILES = ("float.onnx", "float.fast.onnx")
RUNTIME = "onnxruntime"
RUNTIME_KEY, MACHINE_KEY = "qface.onnxruntime", "qface.machine"
"""What an ONNX file says in its metadata: the oldest runtime that runs it, and the processors that it is made for."""

LARGEST_MANIFEST, LARGEST_GOLDEN = 1 << 24, 1 << 26

ROUNDING, ROUNDINGS, LEAST_ROUNDING = 1e-4, 8, 2e-6
"""How far embeddings may lie from others whose sums of floats were taken in another order, in lengths of these.

That is so for what little follows the last codes. A whole float network may lie so many times as far off as its single
precision lies from double precision, or the least. Ten networks lay 1.7 times as far at most, on x86 and on ARM.
"""
FLIPS, FLIP_SHARE = 4, 1e-4
"""How many codes of a tensor may be others, in all images, where floats are rounded to codes: so many and this share.

In a network with attention, 77 of whose operations compute in float, it was 1 to 3 codes of 150,000 where an image
parted, in a third of the images on ARM and a quarter on x86, and none in the others.
"""
TRUSTED_COSINE, PROMISE_KEPT = 0.999, 0.002
"""What is asked of arithmetic that nobody follows: one of two.

Either each cosine to what was expected is so high: the embedding has then turned by 2.6 degrees, and a score between it
and another moves by 0.004 where the other lies anywhere among 128 dimensions, less than int8 itself costs. Or the mean
cosine to the float model is no more than so much lower than promised.
"""

MEANINGS: Mapping[str, str] = {
    "exact": "as expected, to the bit",
    "agrees": "as expected, but for how this machine rounds",
    "differs": "not to be trusted here",
}


class Unusable(Exception):
    """A folder that nothing can be said of; the message says why."""


@dataclass(frozen=True)
class FileVerdict:
    """What became of one file, and why if it was not run or not accepted, or not judged by its bits.

    `verdict` is "exact" (to the bit), "agrees" (but for rounding), "differs", "cannot run", "damaged" (not what the
    manifest says) or "unknown" (nothing says what to expect).
    `cosine_min` is the lowest cosine to the expected embeddings, `float_cosine_mean` the mean one to the float model.
    `refused` is a file that cannot run though its runtime is there, and new enough.
    """

    name: str
    verdict: Verdict
    cosine_min: float | None = None
    float_cosine_mean: float | None = None
    reason: str | None = None
    refused: bool = False

    @property
    def ran(self) -> bool:
        """Tell whether the file gave embeddings."""
        return self.verdict in ("exact", "agrees", "differs")


@dataclass(frozen=True)
class Verification:
    """The verdicts of a result's files on `images` golden images.

    `others` are files that were not looked at, since they are for runtimes that this program does not run; `signed`
    are those for ARM that an x86 processor ran (see SIGNED).
    """

    files: tuple[FileVerdict, ...]
    images: int
    others: tuple[str, ...] = ()
    signed: tuple[str, ...] = ()

    @property
    def trustworthy(self) -> bool:
        """Tell whether something runs here, all of it as expected, and nothing is damaged or refused."""
        bad = [file for file in self.files if file.verdict in ("differs", "damaged") or file.refused]
        return not bad and any(file.ran for file in self.files)

    @property
    def conclusion(self) -> str:
        """Say in a sentence how many files can be trusted."""
        good = [file for file in self.files if file.ran and file.verdict != "differs"]
        if not any(file.ran for file in self.files):
            return "Nothing of this result runs here."
        return f"{len(good)} of {len(self.files)} files can be trusted here, on {self.images} golden images."


# Golden vectors: what each file must give, and how it computes.


@dataclass(frozen=True)
class Tensor:
    """A tensor of codes inside a file: its name in the network, its name in the file, and what may be asked of it.

    `exact`: it follows to the bit from tensors before it, for integers make it.
    """

    name: str
    output: str
    exact: bool


@dataclass(frozen=True)
class About:
    """How a file computes: in which runtime, for which kind of processor, and what can be followed to the bit.

    `integers`: all of it computes in integers. `vnni`: it needs an x86 processor with 8-bit dot products.
    `picks_order`: on tiles it rescales as shapes and batch have it. `tensors`: what can be read inside it, in order.
    """

    runtime: str
    machine: Machine | None = None
    integers: bool = False
    vnni: bool = False
    picks_order: bool = False
    tensors: tuple[Tensor, ...] = ()

    def stored(self) -> npt.NDArray[np.uint8]:
        """Return it as an array of golden vectors."""
        values = asdict(self) | {"tensors": [list(vars(one).values()) for one in self.tensors]}
        return np.frombuffer(json.dumps(values, separators=(",", ":")).encode(), np.uint8)

    @classmethod
    def read(cls, stored: npt.NDArray[np.uint8]) -> About:
        """Return what was stored; raise ValueError if it makes no sense."""
        try:
            values = {"picks_order": False} | json.loads(stored.tobytes())  # which older results do not say
            tensors = tuple(Tensor(str(name), str(output), bool(exact)) for name, output, exact in values["tensors"])
            "".join(tensor.output for tensor in tensors).encode()  # which half a character cannot be
            flags = {name: bool(values[name]) for name in ("integers", "vnni", "picks_order")}
            if values["machine"] not in (None, "x86", "arm"):
                raise ValueError("there is no such kind of processor")
            return cls(str(values["runtime"]), values["machine"], tensors=tensors, **flags)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError("it does not say how a file computes") from error


_ON, _ABOUT, _CODES = "@", "@about", "@codes"
"""What stands in names of arrays and in no file's: a kind of processor, how a file computes, what is inside it."""


def elsewhere(file: str, machine: str) -> str:
    """Return the name in golden vectors of what a file makes on a kind of processor that it is not made for."""
    return f"{file}{_ON}{machine}"


def about(file: str) -> str:
    """Return the name in golden vectors of how a file computes (see About)."""
    return file + _ABOUT


def codes(row: str) -> str:
    """Return the name of what the tensors inside a file must be, whose embeddings have the name `row` (see sketch)."""
    return row + _CODES


def of_files(arrays: Iterable[str]) -> list[str]:
    """Return the files among the names of golden vectors."""
    return [name for name in arrays if name not in (INPUTS, FLOAT, IMAGE) and _ON not in name]


def row_of(arrays: Mapping[str, Any], file: str, machine: Machine) -> str:
    """Return the name of the embeddings that a file must give on a kind of processor.

    Vectors that were written before ARM's arithmetic was followed have one array a file.
    """
    abroad = elsewhere(file, machine)
    return abroad if abroad in arrays else file


def about_of(arrays: Mapping[str, Any], file: str) -> About | None:
    """Return how a file computes; None if the vectors do not say, which were written before any of it was followed."""
    return About.read(arrays[about(file)]) if about(file) in arrays else None


_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    re.escape(_MAGIC) + rb"(..)\{'descr': '(<f4|\|u1)', 'fortran_order': False, 'shape': \(([\d, ]{1,80})\), \} *\n",
    re.DOTALL,
)
"""Of the two kinds of arrays in golden vectors; numpy's own reader hands headers to the parser of Python."""


def read_arrays(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return golden vectors from the bytes of golden.npz, which may come from anybody.

    They are "inputs" [N, C, height, width], "float" and each file's embeddings [N, D], and for each kind of processor
    that a file is not made for (see elsewhere), float32. Where files take pixels, "image" uint8 [N, height, width, 3]
    is there. See About and sketch for the others.

    Raises:
        ValueError: if they are damaged, too large or hold anything but finite float32 arrays of N images.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            records = archive.infolist()
            stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
            if not stored or len({record.filename for record in records}) != len(records):
                raise ValueError("its records are compressed, or two of them have one name")
            if sum(record.file_size for record in records) > LARGEST_GOLDEN:
                raise ValueError(f"its records claim more than {LARGEST_GOLDEN} bytes")
            arrays = {record.filename.removesuffix(".npy"): _array(archive, record) for record in records}
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise ValueError(str(error)) from error
    _check(arrays)
    return arrays


def _array(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Return an array as numpy.save writes it, once it is sure that its header tells the truth about its size."""
    data = archive.read(record)
    header = _HEADER.match(data)
    if header is None or header.end() != len(_MAGIC) + 2 + int.from_bytes(header[1], "little"):
        raise ValueError(f"{record.filename} is no array of float32 or uint8")
    shape, dtype = [int(number) for number in re.findall(rb"\d+", header[3])], np.dtype(header[2].decode())
    if math.prod(shape) * dtype.itemsize != len(data) - header.end():
        raise ValueError(f"{record.filename} is not as large as it says")
    return np.frombuffer(data, dtype, offset=header.end()).reshape(shape).copy()


def _check(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    if missing := {INPUTS, FLOAT} - arrays.keys():
        raise ValueError(f"no {' and no '.join(sorted(missing))}")
    count = len(arrays[FLOAT])
    for name, array in arrays.items():
        if name.endswith(_ABOUT):
            About.read(array)
            continue
        dtype, axes = (np.uint8, 4) if name == IMAGE else (np.float32, 4 if name == INPUTS else 2)
        if array.dtype != dtype or array.ndim != axes or len(array) != count or array.size == 0:
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)[:8]}")
        if name != IMAGE and not (np.isfinite(array).all() and array.reshape(count, -1).any(axis=1).all()):
            raise ValueError(f"{name} holds rows of zeros, or no numbers")


# Judging: of what a file gives here, and of what is inside it.


@dataclass(frozen=True)
class Here:
    """The machine that this runs on, as far as arithmetic depends on it.

    `system` and `processor` are what Python's platform module calls them; `dot_products` says that an x86 processor
    adds 8-bit products in 32 bits, `tiles` that it multiplies 8-bit matrices by tiles (Intel's AMX).
    """

    system: str
    processor: str
    dot_products: bool
    tiles: bool = False

    @property
    def machine(self) -> Machine:
        """The kind of processor."""
        return machine_of(self.processor)

    def unchecked(self, known: About) -> str | None:
        """Return why nobody can tell to the bit what a file computes here, whatever it is; None if somebody can."""
        if known.runtime not in (RUNTIME, "torch"):
            return f"how {known.runtime} rounds is not followed to the bit"
        unknown = f"nobody checked how {known.runtime} rounds on {self.system}, {self.processor}"
        if self.system != "Linux" or self.processor not in ("x86_64", "aarch64"):
            return unknown
        if known.runtime == RUNTIME and known.vnni and self.machine == "x86" and not self.dot_products:
            fix = "lower the result again with --set target.vnni=false"
            return f"{unknown} without 8-bit dot products, where sums of pairs may overflow; {fix}"
        if known.picks_order and self.tiles:
            return f"on a processor with matrix tiles {known.runtime} rescales some layers in another order"
        return None


def machine_of(processor: str) -> Machine:
    """Return the kind of a processor that Python's platform module calls so, as far as runtimes compute otherwise."""
    return "arm" if processor in ("aarch64", "arm64") else "x86"


def here() -> Here:
    """Return what this process runs on."""
    # Android's Python calls itself Linux or not, by its version.
    system = "Android" if hasattr(sys, "getandroidapilevel") else platform.system()
    cpuinfo = Path("/proc/cpuinfo")
    told = set(cpuinfo.read_text("utf-8", "replace").split()) if cpuinfo.exists() else set[str]()
    return Here(system, platform.machine(), bool(told & {"avx512_vnni", "avx_vnni", "amx_int8"}), "amx_int8" in told)


Look = Callable[[Sequence[str]], "list[npt.NDArray[Any]] | None"]
"""Runs a file once more and returns its embeddings and then these tensors inside it; None if that cannot be done."""


def judge(
    file: str,
    golden: Mapping[str, npt.NDArray[Any]],
    got: Floats,
    *,
    on: Here,
    made_for: str | None = None,
    look: Look = lambda names: None,
) -> FileVerdict:
    """Return the verdict on the embeddings [N, D] that a file gave; `made_for` is what it says of processors itself.

    Where its arithmetic is followed, a file is exact or it differs, its tensors too if they can be looked at. What
    computes in float in between agrees as long as nothing parts inside but roundings of these floats. Otherwise a file
    agrees if it is close enough (see TRUSTED_COSINE).
    """
    row = FLOAT if file in FLOAT_FILES else row_of(golden, file, on.machine)
    expected, known = golden[row], about_of(golden, file)
    try:
        lowest = float(_cosines(expected, got).min())
        to_float, promised = (float(_cosines(golden[FLOAT], one).mean()) for one in (got, expected))
    except ValueError as error:
        return FileVerdict(file, "differs", reason=str(error))
    found = FileVerdict(file, "exact", lowest, to_float)
    if known is not None and known.machine is not None and made_for not in (None, known.machine):
        said = f"it is made for {made_for}, and a file of this name for {known.machine}"
        return replace(found, verdict="differs", reason=said)
    exact, unfollowed = np.array_equal(expected, got), _unfollowed(known, on)
    if row == FLOAT:
        return found if exact else _as_floats(found, golden, got)
    if known is None or unfollowed:
        return found if exact else _loosely(found, promised, unfollowed)
    inside = _inside(known.tensors, golden.get(codes(row)), got, look)
    if inside is None:
        return found if exact else _unseen(found, promised, known)
    parts = inside.parts(expected, got)
    if exact and parts:
        return replace(found, verdict="differs", reason=f"{parts}, though these embeddings are as expected")
    if parts or (known.integers and not exact):
        said = "; ".join(filter(None, [parts, _distance(found, promised)]))
        return replace(found, verdict="differs", reason=said)
    return found if exact else replace(found, verdict="agrees", reason=inside.flips())


def _unfollowed(known: About | None, on: Here) -> str | None:
    """Return why a file cannot be judged by its bits; None if it can."""
    if known is None:
        return "it was made by an older version, which did not say how its files compute"
    if not known.integers and not known.tensors:
        return on.unchecked(known) or f"it computes in float in between, and {known.runtime}'s sums are not followed"
    return on.unchecked(known)


def _loosely(found: FileVerdict, promised: float, why: str | None) -> FileVerdict:
    """Judge a file by cosines, since nobody knows its bits here."""
    assert found.cosine_min is not None and found.float_cosine_mean is not None
    if found.cosine_min >= TRUSTED_COSINE or found.float_cosine_mean >= promised - PROMISE_KEPT:
        return replace(found, verdict="agrees", reason=f"judged by cosines alone: {why}")
    return replace(found, verdict="differs", reason=f"{_distance(found, promised)}; {why}")


def _unseen(found: FileVerdict, promised: float, known: About) -> FileVerdict:
    """Judge a file that is not exact and cannot be looked into."""
    why = "its tensors cannot be looked at, as if it were another network's"
    if not known.integers:
        return _loosely(found, promised, why)
    said = _distance(found, promised)
    return replace(found, verdict="differs", reason=f"{said}; {why}" if known.tensors else said)


def _distance(found: FileVerdict, promised: float) -> str:
    to_float = found.float_cosine_mean or 0.0
    if to_float < promised - PROMISE_KEPT:
        return f"it is further from the float model than promised: {to_float:.4f} instead of {promised:.4f}"
    return (
        f"it computes in another way than was simulated; as close to the float model as promised ({promised:.4f}), but "
        "its embeddings should not be compared with those made elsewhere"
    )


def _as_floats(found: FileVerdict, golden: Mapping[str, npt.NDArray[Any]], got: Floats) -> FileVerdict:
    """Judge a float file, whose sums may be taken in any order."""
    off, explained = float(_apart(golden[FLOAT], got).max()), ROUNDING
    if DOUBLE in golden:
        explained = max(ROUNDINGS * float(_apart(golden[FLOAT], golden[DOUBLE]).max()), LEAST_ROUNDING)
    if off <= explained:
        return replace(found, verdict="agrees")
    said = f"its embeddings lie {off:.1g} of their length from the float model's, and rounding explains {explained:.1g}"
    return replace(found, verdict="differs", reason=said)


def _unit(embeddings: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    rows = np.asarray(embeddings, np.float64)
    lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    if not (np.isfinite(lengths).all() and lengths.all()):
        raise ValueError("some of its embeddings are zero or no numbers")
    return np.asarray(rows / lengths)


def _cosines(expected: npt.NDArray[Any], got: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the cosine of each row with the same row of the other [N]; raise ValueError where there is none."""
    if expected.shape != got.shape:
        raise ValueError(f"it gives {list(got.shape)[:8]} where embeddings {list(expected.shape)} are expected")
    return np.asarray(np.clip((_unit(expected) * _unit(got)).sum(axis=1), -1, 1))


def _apart(expected: npt.NDArray[Any], got: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return how far rows lie from those expected, in lengths of these [N], which tells more than a cosine near one."""
    rows = expected.astype(np.float64)
    return np.asarray(np.linalg.norm(got - rows, axis=1) / np.linalg.norm(rows, axis=1))


_NUMBERS, _WRAP = 4, 1 << 24
"""How many numbers a sketch has, and below what: float32 holds them exactly."""


def sketch(tensor: npt.NDArray[np.uint8]) -> Floats:
    """Return four numbers for each image of a tensor of codes [N, ...]: sums of codes with weights that are fixed.

    Other codes give other sums, and the squares of what sums are apart tell how far the codes are (see _steps_apart).
    """
    flat = tensor.reshape(len(tensor), -1).astype(np.float64)
    return np.asarray(np.mod(flat @ _weights(flat.shape[1]), _WRAP), np.float32)


@functools.lru_cache(maxsize=2)
def _weights(count: int) -> npt.NDArray[np.float64]:
    """Return weights of 64 to 127 of either sign [count, 4], by Vigna's splitmix64 of the place."""
    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    bits = (mixed[:, None] >> np.arange(0, 7 * _NUMBERS, 7, dtype=np.uint64)) & np.uint64(127)
    sizes = (bits & np.uint64(63)).astype(np.float64) + 64
    return np.asarray(np.where(bits > 63, -sizes, sizes))


_MEAN_SQUARE = float(np.mean(np.arange(64, 128) ** 2))


def _steps_apart(expected: Floats, found: Floats) -> npt.NDArray[np.float64]:
    """Return about how many codes differ by one step, of two sketches [..., 4]; codes by two steps count four times."""
    apart = np.mod(found.astype(np.float64) - expected + _WRAP / 2, _WRAP) - _WRAP / 2
    return np.asarray(np.square(apart).mean(axis=-1) / _MEAN_SQUARE)


@dataclass(frozen=True)
class _Inside:
    """How far each tensor inside a file is from what it must be: `steps` [N, tensors], of so many codes an image."""

    tensors: tuple[Tensor, ...]
    steps: npt.NDArray[np.float64]
    sizes: Sequence[int]

    def firsts(self) -> list[int | None]:
        """Return for each image the place of the first tensor that is not as expected."""
        return [int(np.argmax(row > 0)) if (row > 0).any() else None for row in self.steps]

    def parts(self, expected: Floats, got: Floats) -> str | None:
        """Say where the file goes wrong; None if nothing is but roundings of floats."""
        firsts = self.firsts()
        wrong = [place for place in sorted({one for one in firsts if one is not None}) if self._is_wrong(place, firsts)]
        if wrong:
            return f"it parts at {self.tensors[wrong[0]].name}"
        apart = _apart(expected, got)
        if any(place is None and apart[image] > ROUNDING for image, place in enumerate(firsts)):
            return "it parts behind its last codes, where the embedding is made"
        return None

    def _is_wrong(self, place: int, firsts: Sequence[int | None]) -> bool:
        """Tell whether a tensor that stands first in some images cannot part there by rounding."""
        steps = sum(float(self.steps[image, place]) for image, first in enumerate(firsts) if first == place)
        return self.tensors[place].exact or steps > FLIPS + FLIP_SHARE * self.sizes[place] * len(firsts)

    def flips(self) -> str | None:
        """Say in how many images a rounding flips."""
        flipped = [place for place in self.firsts() if place is not None]
        if not flipped:
            return None
        name = self.tensors[min(flipped)].name
        return f"in {len(flipped)} of {len(self.steps)} images a float is rounded to another code, first in {name}"


def _inside(tensors: tuple[Tensor, ...], stored: Floats | None, got: Floats, look: Look) -> _Inside | None:
    """Look into a file that gave these embeddings; None if that changes them, or cannot be done."""
    names = list(dict.fromkeys(tensor.output for tensor in tensors))
    looked = look(names) if names and stored is not None else None
    if not looked or stored is None or not np.array_equal(looked[0], got):
        return None
    found = {name: _unsigned(looked[place]) for place, name in enumerate(names, 1)}
    inside = [found[tensor.output] for tensor in tensors]
    batches = all(one.ndim > 1 and len(one) == len(got) for one in inside)
    if not batches or stored.size != len(got) * len(tensors) * _NUMBERS:
        return None
    sketches = np.stack([sketch(one) for one in inside], axis=1)
    return _Inside(tensors, _steps_apart(stored.reshape(sketches.shape), sketches), [one[0].size for one in inside])


def _unsigned(tensor: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return codes as unsigned ones count; of anything else, nothing."""
    if tensor.dtype not in (np.uint8, np.int8):
        return np.empty(0, np.uint8)
    return tensor.view(np.uint8) ^ np.uint8(128 if tensor.dtype == np.int8 else 0)


# Running: ONNX files in ONNX Runtime, from their bytes.


def fact(model: bytes, key: str) -> str | None:
    """Return what an ONNX file's metadata says of a key, in up to 127 bytes, without any library that reads them."""
    place = model.rfind(key.encode() + b"\x12")
    if place < 0:
        return None
    start = place + len(key) + 2
    return model[start : start + model[start - 1]].decode("utf-8", "replace") if model[start - 1 : start] else None


def too_old(needed: str | None, there: str) -> str | None:
    """Return what is wrong with a runtime that is older than a file asks for; None if nothing is."""
    if _numbers(there) >= _numbers(needed or "0"):
        return None
    return f"the file needs {RUNTIME} {needed} or newer, here is {there}"


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split(".")[:3]
    return tuple(int(part) for part in parts if part.isdecimal() and len(part) < 10)


def with_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """Return an ONNX file that returns these tensors, too: what is appended to a protobuf message is merged into it."""
    outputs = b"".join(_field(_GRAPH_OUTPUT, _field(_VALUE_NAME, name.encode())) for name in names)
    return model + _field(_MODEL_GRAPH, outputs) if names else model


_MODEL_GRAPH, _GRAPH_OUTPUT, _VALUE_NAME = 7, 12, 1
"""Numbers of fields in onnx.proto."""


def _field(number: int, content: bytes) -> bytes:
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def images_of(session: Any, golden: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:  # noqa: ANN401
    """Return the golden images as a loaded file takes them, by the name of its input."""
    entering = session.get_inputs()[0]
    pixels = entering.name == IMAGE and entering.type == "tensor(uint8)" and IMAGE in golden
    return {entering.name: golden[IMAGE if pixels else INPUTS]}


def other_images(takes: Sequence[Any], given: Sequence[int]) -> str | None:
    """Return what images a file takes instead of these; None if it takes them. What is no number may be any."""
    axes = range(1, len(given))
    if len(takes) == len(given) and all(takes[axis] == given[axis] for axis in axes if isinstance(takes[axis], int)):
        return None
    return f"it takes images {list(takes)[1:5]}, and those of this network are {list(given)[1:]}"


def open_session(model: bytes) -> Any:  # noqa: ANN401 - onnxruntime ships no types, and may not be there
    """Load an ONNX file for one thread, optimized as usual."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Files for ARM hold signed codes, which ONNX Runtime on x86 would leave float; to others it is all the same.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)


# The command.


def file_names(
    manifest: Iterable[str], golden: Iterable[str], damaged: Iterable[str], there: Iterable[str]
) -> list[str]:
    """Return the float files, those that golden vectors know, other damaged files, and those that nobody named."""
    known = set(manifest)
    floats = [name for name in FLOAT_FILES if name in known]
    return list(dict.fromkeys((*floats, *of_files(golden), *damaged, *there)))


def verify(folder: Path) -> Verification:
    """Return the verdicts on the ONNX files of a result.

    Raises:
        Unusable: if the folder is no result, or its golden vectors are damaged.
    """
    records = _manifest(folder)
    damaged = {name: wrong for name in records if (wrong := _damage(folder / name, **records[name]))}
    golden = _golden(folder, damaged.get(GOLDEN) if GOLDEN in records else "the manifest does not name it")
    there = sorted(file.name for file in folder.iterdir() if file.suffix == ".onnx")
    names = file_names(records, golden, damaged, there)
    knowns = {name: about_of(golden, name) or _older(name) for name in of_files(golden)}
    others = [name for name, known in knowns.items() if known.runtime != RUNTIME and name not in damaged]
    on = here()
    files = [_verdict(folder / name, records, damaged, golden, on) for name in names if name not in others]
    signed = [file.name for file in files if file.ran and file.name in knowns and knowns[file.name].machine == "arm"]
    return Verification(tuple(files), len(golden[FLOAT]), tuple(others), tuple(signed if on.machine == "x86" else ()))


def _older(file: str) -> About:
    """Return what can be told of a file that was written before golden vectors said how files compute."""
    return About(RUNTIME if file.endswith(".onnx") else "another")


def _golden(folder: Path, wrong: str | None) -> dict[str, npt.NDArray[Any]]:
    if wrong is not None:
        raise Unusable(f"{GOLDEN}: there is nothing to compare with: {wrong}")
    try:
        with (folder / GOLDEN).open("rb") as file:
            return read_arrays(file.read(2 * LARGEST_GOLDEN))
    except ValueError as error:
        raise Unusable(f"{GOLDEN}: these golden vectors cannot be used: {str(error)[:200]}") from error


def _verdict(
    path: Path,
    records: Mapping[str, Any],
    damaged: Mapping[str, str],
    golden: Mapping[str, npt.NDArray[Any]],
    on: Here,
) -> FileVerdict:
    name = path.name
    if name in damaged:
        return FileVerdict(name, "damaged", reason=damaged[name])
    if name not in records or (name not in golden and name not in FLOAT_FILES):
        missing = GOLDEN if name in records else MANIFEST
        return FileVerdict(name, "unknown", reason=f"{missing} does not know it")
    model = path.read_bytes()
    old = too_old(fact(model, RUNTIME_KEY), _version())
    if old is not None:
        return FileVerdict(name, "cannot run", reason=old)

    try:
        session = open_session(model)
        images = images_of(session, golden)
        ((_, given),) = images.items()
        other = other_images(session.get_inputs()[0].shape, given.shape)
        if other is not None:
            return FileVerdict(name, "differs", reason=other)
        got = session.run(None, images)[0]
    except Exception as error:  # noqa: BLE001 - each release has error classes of its own
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        return FileVerdict(name, "cannot run", reason=f"{RUNTIME} {_version()} refuses it: {said}", refused=True)

    def look(tensors: Sequence[str]) -> list[npt.NDArray[Any]] | None:
        try:
            outputs: list[npt.NDArray[Any]] = open_session(with_outputs(model, tensors)).run(None, images)
            return outputs
        except Exception:  # noqa: BLE001 - as above
            return None

    return judge(name, golden, got, on=on, made_for=fact(model, MACHINE_KEY), look=look)


def _version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what manifest.json says that each file must be: `sha256` and `size_bytes`."""
    path = folder / MANIFEST
    if not path.is_file() or path.stat().st_size > LARGEST_MANIFEST:
        raise Unusable(f"{path}: no such file; name the folder that qface compress made")
    try:
        values = json.loads(path.read_bytes())
        if values["version"] != 1 or values["made_by"] != "qface_toolkit":
            raise ValueError("it is not by qface_toolkit, or by a newer one")
        records = {
            str(name): {"sha256": str(record["sha256"]), "size_bytes": int(record["size_bytes"])}
            for name, record in values["files"].items()
        }
        if odd := [name for name in records if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)]:
            raise ValueError(f"{odd[0][:80]} is no name of a file")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise Unusable(f"{path}: this file is damaged: {str(error)[:200]}") from error
    return records


def damage(path: Path, sha256: str, size_bytes: int) -> str | None:
    """Return what is wrong with a file of a result, every byte of which is read."""
    if not path.is_file():
        return "it is missing"
    found, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while size <= size_bytes and (block := file.read(1 << 20)):
            found.update(block)
            size += len(block)
    return None if size == size_bytes and found.hexdigest() == sha256 else "it is not what the manifest says"


def _damage(path: Path, sha256: str, size_bytes: int) -> str | None:
    try:
        return damage(path, sha256, size_bytes)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def _printed(found: Verification, on: Here) -> str:
    """Return the verdicts for a terminal of 80 columns, in ASCII: not every target can show more."""
    wide = max([len(file.name[:40]) for file in found.files] or [4])
    row = f"{{:{wide}}}  {{:10}}  {{:>13}}  {{:>8}}".format
    lines = [row("file", "verdict", "lowest cosine", "to float"), "-" * (wide + 37)]
    for file in found.files:
        lowest = "exact" if file.verdict == "exact" else _cosine(file.cosine_min)
        lines.append(row(file.name[:40], file.verdict, lowest, _cosine(file.float_cosine_mean)))
    notes = [f"{file.name}: {file.reason}" for file in found.files if file.reason]
    notes += [f"{verdict}: {MEANINGS[verdict]}" for verdict in dict.fromkeys(f.verdict for f in found.files if f.ran)]
    if found.others:
        notes.append(f"not looked at: {', '.join(found.others)}; qface verify looks at these, too")
    if found.signed:
        notes.append(f"{', '.join(found.signed)}: {SIGNED}")
    notes += ["", found.conclusion, f"{RUNTIME} {_version()}; {on.system}, {on.processor}"]
    wrapped = [line for note in notes for line in textwrap.wrap(_plain(note), 80) or [""]]
    return "\n".join([*lines, "", *wrapped]) + "\n"


SIGNED = (
    "run with session.qdqisint8allowed=1, as files for ARM must be here; without it ONNX Runtime on x86 computes them "
    "in float: slower, and with other embeddings"
)


def _cosine(value: float | None) -> str:
    if value is None:
        return "-"
    return ">0.99999" if value >= 0.999995 else f"{value:.5f}"


def _plain(text: str) -> str:
    """Return a text in which a terminal finds nothing to obey."""
    return "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify the result that is named, or the one that this file lies in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent, metavar="DIR")
    parser.add_argument("--json", action="store_true", help="print the verdicts as one JSON object")
    given = parser.parse_args(arguments)
    try:
        import onnxruntime  # noqa: F401 - looked for before anything is told

        found = verify(given.folder)
    except (Unusable, ImportError, OSError) as error:
        sys.stderr.write(_plain(f"{error}") + "\n")
        return 1
    on = here()
    if given.json:
        versions = {RUNTIME: _version(), "numpy": np.__version__, "python": platform.python_version()}
        values = {
            "trustworthy": found.trustworthy,
            **asdict(found),
            "environment": {**asdict(on), "versions": versions},
        }
        sys.stdout.write(json.dumps(values) + "\n")
    else:
        sys.stdout.write(_printed(found, on))
    return 0 if found.trustworthy else 1


if __name__ == "__main__":
    sys.exit(main())
