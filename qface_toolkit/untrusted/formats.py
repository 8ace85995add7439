"""What a model's file is, told by its first bytes: the forms that are read here, and words for those that are not.

What a name ends in is believed last, and only of forms that have no mark of their own. Nothing heavy is imported, so
that a file which is no model is refused at once.
"""

import os
import re
import struct
import zipfile
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Literal

from qface_toolkit.errors import CheckpointError, QFaceError
from qface_toolkit.untrusted._protobuf import Fields, message_in, top_fields
from qface_toolkit.untrusted.reading import open_file, printable

Form = Literal["onnx", "state", "torchscript", "safetensors", "unknown"]
"""`state` is what torch.save writes; of `unknown` no more is known than that it is none of the others."""

LARGEST_BYTES = 8 << 30
_HEAD = 512
SAVED_MODEL = "saved_model.pb"
"""The file by which the folder of a TensorFlow SavedModel is known."""
STUDENT_FILE, ROUNDED_FILE = "student.safetensors", "student.onnx"
"""The file by which a folder that `qface train` wrote is known, and for which the folder stands."""
LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
MODEL_ENDINGS = (".onnx", ".pth", ".pt", ".ckpt", ".safetensors")
_SOURCE = "give the float checkpoint (.pth, .pt, .ckpt, .safetensors) or the ONNX file that it was made from"
_UNPACK = "unpack it, and give the file of the model inside"
_TF2ONNX = "convert it to ONNX and give that: python -m tf2onnx.convert --{flag} {name} --output model.onnx{more}"
_GRAPHDEF = " --inputs INPUT:0 --outputs EMBEDDING:0"

Words = tuple[str, str]
"""What a file is, and what to do instead."""

_MARKS: Sequence[tuple[int, bytes, str, str]] = (
    (0, b"\x89HDF\r\n\x1a\n", "a Keras file (HDF5)", "convert it to ONNX by tf2onnx.convert.from_keras, and give that"),
    (4, b"TFL3", "a TensorFlow Lite model", _TF2ONNX.format(flag="tflite", name="{name}", more="")),
    (4, b"ORTM", "a model in ONNX Runtime's own format (.ort)", "give the .onnx file that it was made from"),
    (0, b"\x12\x01\x00\x00\x00\x00\x00\x00", "an MXNet file of weights (.params)", "{mxnet}"),
    (0, b"\xdd\x85\x76\x00", "an ncnn network (.param.bin)", _SOURCE),
    (0, b"RKNN", "a Rockchip model (.rknn)", _SOURCE),
    (0, b"ftrt", "a TensorRT engine", _SOURCE),
    (0, b"GGUF", "a GGUF file, the form of language models", _SOURCE),
    (0, b"\x93NUMPY", "an array of NumPy's (.npy)", _SOURCE),
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ", "an xz archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\xff\xd8\xff", "a JPEG picture", "give a model; pictures are for --faces"),
    (0, b"\x89PNG", "a PNG picture", "give a model; pictures are for --faces"),
    (0, b"%PDF", "a PDF document", "download the model itself"),
)
_PICKLE = "a Python pickle that torch.save did not write"
RESAVE = (
    "in the program that made the file, save the weights alone: "
    "torch.save(model.state_dict(), 'weights.pth') or safetensors.torch.save_file(model.state_dict(), ...)"
)
_MXNET = (
    "with its -symbol.json beside it, convert it by MXNet's own mx.onnx.export_model(symbol, params, "
    "[(1, 3, 112, 112)], numpy.float32, 'model.onnx'), and give model.onnx"
)
_TEXTS: Sequence[tuple[re.Pattern[bytes], str, str]] = (
    (re.compile(rb"7767517\s"), "an ncnn network (.param)", _SOURCE),
    (re.compile(rb"(<\?xml[^>]*>\s*)?<net\s"), "an OpenVINO network (.xml)", _SOURCE),
    (re.compile(rb"<\?xml|<Error"), "an XML text of a server", "download the model itself, by its own link"),
    (re.compile(rb'\{\s*"nodes"\s*:'), "the symbol of an MXNet network (.json)", "{mxnet}"),
    (re.compile(rb'\{[^}]*"(modelTopology|weightsManifest)"'), "a TensorFlow.js network (.json)", _SOURCE),
    (re.compile(rb"[\[{]"), "a JSON text", "download the model itself, by its own link"),
    (re.compile(rb"[(](dp|lp|i|c)\d*\s"), _PICKLE, RESAVE),
    (re.compile(rb"(name\s*:|layers?\s*\{|input\s*:|input_dim\s*:)"), "a Caffe network (.prototxt)", "{caffe}"),
)
_CAFFE = "give an ONNX file of the network, made by a converter such as caffe2onnx from the .prototxt and .caffemodel"
_ENDINGS = {
    ".bin": ("the weights of ncnn or OpenVINO by its name", _SOURCE),
    ".mnn": ("an MNN model by its name", _SOURCE),
    ".engine": ("a TensorRT engine by its name", _SOURCE),
    ".trt": ("a TensorRT engine by its name", _SOURCE),
    ".dat": ("a file of dlib's by its name", "give an ONNX file of the network"),
    ".pdiparams": ("the weights of Paddle by its name", "{paddle}"),
}
_PADDLE = (
    "convert it and give model.onnx: paddle2onnx --model_dir DIR --model_filename X.pdmodel "
    "--params_filename X.pdiparams --save_file model.onnx"
)
_SCRIPT = (
    "save its weights, and give those: torch.save(torch.jit.load({name!r}, 'cpu').state_dict(), 'weights.pth'); for a "
    "network that is not known here, torch.onnx.export(torch.jit.load({name!r}, 'cpu').eval(), "
    "torch.zeros(1, 3, 112, 112), 'model.onnx', dynamo=False)"
)
_EXPORTED = "save its weights, and give those: torch.save(torch.export.load({name!r}).state_dict, 'weights.pth')"


_SUFFIXES = {"onnx": ".onnx", "torchscript": ".ts", "safetensors": ".safetensors", "state": ".pth"}
"""How the names of files of each form end here."""


def suffix_of(form: Form, path: Path) -> str:
    """Return how the name of a file of this form should end; of an unknown one its own ending is believed."""
    return _SUFFIXES.get(form, path.suffix.lower())


def place_of(path: Path, form: Form) -> str:
    """Return where a file is, with what it is if its name says something else."""
    said = path.suffix.lower()
    odd = said in _SUFFIXES.values() and suffix_of(form, path) != said and (form, said) != ("torchscript", ".pth")
    return f"{path}, which is {_NOUNS[form]}" if odd else str(path)


_NOUNS = {
    "onnx": "an ONNX file",
    "torchscript": "a TorchScript program",
    "safetensors": "a safetensors file",
    "state": "a file of torch.save",
}


def file_of(path: Path) -> Path:
    """Return the student of a folder that training wrote, which learnt rounded or not; any other path as it is."""
    inside = [path / name for name in (STUDENT_FILE, ROUNDED_FILE)] if path.is_dir() else []
    return next((file for file in inside if file.is_file()), path)


def check_model_file(path: Path, *, kind: type[QFaceError] = CheckpointError, scripts: bool = True) -> Form:
    """Return in which form a model's file is; `scripts` tells whether TorchScript programs will do.

    A folder stands for its student; see `file_of`.

    Raises:
        QFaceError: of this kind, if it is no file or of a form that is not read here, with what to do instead.
    """
    path = file_of(path)
    if path.is_dir():
        raise folder_error(path, kind)
    with open_file(path, LARGEST_BYTES, noun="model" if scripts else "checkpoint", kind=kind) as stream:
        return form_of(stream, path, kind=kind, scripts=scripts)


def form_of(
    stream: BufferedReader, path: Path, *, kind: type[QFaceError] = CheckpointError, scripts: bool = True
) -> Form:
    """Return the form of an open file, which is then read from its beginning; see `check_model_file`."""
    head = os.pread(stream.fileno(), _HEAD, 0)
    found = _form(stream, head, path)
    stream.seek(0)
    if found == "torchscript" and not scripts:
        found = "a TorchScript program", _SCRIPT
    if isinstance(found, tuple):
        raise _refused(path, found, kind, scripts)
    return found


def _refused(path: Path, words: Words, kind: type[QFaceError], scripts: bool) -> QFaceError:
    what, fix = words
    for key, text in (("{mxnet}", _MXNET), ("{caffe}", _CAFFE), ("{paddle}", _PADDLE)):
        fix = fix.replace(key, text)
    name = printable(path.name)
    fix = fix.replace("{name!r}", repr(name)).replace("{name}", name)
    other = "none of the models that are read here" if scripts else "not a checkpoint"
    return kind(f"this is {what} and {other}", where=str(path), fix=fix)


def script_advice(path: Path) -> str:
    """Return what to do with a TorchScript program of somebody else's."""
    return _SCRIPT.replace("{name!r}", repr(printable(path.name)))


def _form(stream: BufferedReader, head: bytes, path: Path) -> Form | Words:
    if head.startswith(b"PK\x03\x04"):
        return _zip_form(stream)
    if head.startswith(LEGACY_MAGIC):
        return "state"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= os.fstat(stream.fileno()).st_size:
        return "safetensors"
    marked = next(((what, fix) for at, mark, what, fix in _MARKS if head[at:].startswith(mark)), None)
    if marked:
        return marked
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _PICKLE, RESAVE
    by_name: Form | Words = _ENDINGS.get(path.suffix.lower(), "unknown")
    return _text_form(head) or _protobuf_form(top_fields(stream)) or by_name


def _text_form(head: bytes) -> Words | None:
    plain = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    try:
        text = plain.decode("utf-8", "ignore" if len(head) == _HEAD else "strict")
    except UnicodeDecodeError:
        return None
    if not text or not all(sign.isprintable() or sign in "\r\n\t" for sign in text):
        return None
    found = next(((what, fix) for pattern, what, fix in _TEXTS if pattern.match(plain)), None)
    line = printable(text.splitlines()[0], 40)
    return found or (
        f"a text, which begins {line!r},",
        "download or copy the model itself: this may be an answer of a server",
    )


def _protobuf_form(fields: Fields) -> Form | Words | None:
    """Tell a protobuf message by which fields it has: ONNX, TensorFlow, Caffe, CoreML and Paddle number them apart."""
    numbers = set(fields)
    if isinstance(fields.get(1), int):
        if max(numbers) >= _COREML_NETWORK:
            return "a CoreML model", _SOURCE
        if 7 in numbers or (numbers <= _ONNX_FIELDS and fields[1] in _ONNX_VERSIONS and len(numbers) > 1):
            return "onnx"
        if numbers == {1, 2}:
            more = _TF2ONNX.format(flag="saved-model", name="DIR", more="") + ", DIR being the folder that it stands in"
            return "a TensorFlow SavedModel (.pb)", more
        return None
    first = fields.get(1)
    if isinstance(first, bytes):
        inner = message_in(first)
        if inner is not None and isinstance(inner.get(1), bytes) and isinstance(inner.get(2), bytes):
            return "a TensorFlow graph (.pb)", _TF2ONNX.format(flag="graphdef", name="{name}", more=_GRAPHDEF)
        if inner is not None and isinstance(inner.get(1), int) and 3 in inner:
            return "a Paddle network (.pdmodel)", "{paddle}"
        if numbers & {2, 100}:
            return "a Caffe network's weights (.caffemodel)", "{caffe}"
    return None


_ONNX_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
_ONNX_VERSIONS = range(3, 33)
_COREML_NETWORK = 200


def _zip_form(stream: BufferedReader) -> Form | Words:
    try:
        with zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, NotImplementedError, struct.error):
        return "state"  # damaged or cut short, which its reader says
    ends = [name.rpartition("/")[2] for name in names]
    if "constants.pkl" in ends:
        return "torchscript"
    if "data.pkl" in ends:
        return "state"
    if "serialized_exported_program.json" in ends or any(name.endswith("models/model.json") for name in names):
        return "a program of torch.export (.pt2)", _EXPORTED
    if "model.weights.h5" in ends:
        return "a Keras file (.keras)", "convert it to ONNX by tf2onnx.convert.from_keras, and give that"
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of NumPy's arrays (.npz)", _SOURCE
    held = [printable(name) for name in names if name.lower().endswith(MODEL_ENDINGS)]
    inside = (
        f"unpack it, and give {held[0]!r} inside"
        if held
        else "unpack it; it holds no model of a kind that is read here"
    )
    return "a zip archive", inside


def folder_error(path: Path, kind: type[QFaceError]) -> QFaceError:
    """Return the error for a folder where a file is needed, with the file in it that was probably meant."""
    if (path / SAVED_MODEL).is_file():
        fix = _TF2ONNX.format(flag="saved-model", name=path, more="")
        return kind("this is the folder of a TensorFlow SavedModel and no checkpoint", where=str(path), fix=fix)
    return kind("this is a folder and no checkpoint", where=str(path), fix=f"name the file itself{such_as(path)}")


def such_as(folder: Path) -> str:
    """Return the end of a sentence that names the model's file in a folder, if there is one."""
    meant = model_in(folder)
    return f", such as {meant}" if meant else ""


def model_in(folder: Path) -> Path | None:
    """Return the file in a folder that is probably meant as the model: a result's float model, a training's student."""
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.name.lower().endswith(MODEL_ENDINGS))
    except OSError:
        return None
    known = (name for name in ("float.onnx", STUDENT_FILE, ROUNDED_FILE) if name in names)
    first = next(known, next(iter(names), None))
    return folder / first if first else None
