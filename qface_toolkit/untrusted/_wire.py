"""Measure an ONNX file before protobuf parses it: a parser gives every two bytes of an empty message a hundred.

Only the wire format is followed here, by field numbers of onnx.proto, so that what the file would take in memory is
known while it is still bytes.
"""

from collections.abc import Mapping
from typing import Any

from qface_toolkit.errors import CheckpointError
from qface_toolkit.untrusted.reading import as_text

_MESSAGES: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 8: "opset", 14: "entry"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 14: "annotation", 16: "entry"},
    "node": {5: "attribute", 9: "entry"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
    "tensor": {3: "segment", 13: "entry", 16: "entry"},
    "value": {2: "type", 4: "entry"},
    "type": {1: "tensor type"},
    "tensor type": {2: "shape"},
    "shape": {1: "dimension"},
    "annotation": {2: "entry"},
    "opset": {},
    "entry": {},
    "dimension": {},
    "segment": {},
}
"""Message -> which of its fields hold messages, and of what kind."""

_REMARKS = ("doc_string", "metadata_props", "producer_name", "producer_version")
"""Fields that are for people, in whatever encoding these write."""

_REFUSED: Mapping[tuple[str, int], str] = {
    ("model", 20): "training steps",
    ("model", 25): "functions of its own",
    ("graph", 15): "sparse tensors",
    ("attribute", 11): "nested graphs (If, Loop or Scan)",
    ("attribute", 6): "nested graphs (If, Loop or Scan)",
    ("attribute", 22): "sparse tensors",
    ("attribute", 23): "sparse tensors",
    ("attribute", 14): "types as attributes",
    ("attribute", 15): "types as attributes",
    **{("type", number): "values that are no tensors" for number in (4, 5, 7, 8, 9)},
    ("node", 10): "a distribution over several devices",
    ("model", 26): "a distribution over several devices",
}
_PAYLOADS = {("tensor", 4), ("tensor", 9), ("tensor", 10)}
"""Numbers that take as much memory as they take bytes: float_data, raw_data and double_data."""

_MOST_FIELDS = 500_000
_MOST_OTHER_BYTES = 64 << 20
_FIXED_BYTES = {1: 8, 5: 4}
_VARINT, _BYTES = 0, 2
_FIX = (
    "write the file again as one flat graph: onnxsim, onnx.inliner for functions, or onnxruntime's "
    "SessionOptions.optimized_model_filepath at ORT_ENABLE_BASIC; an input that decides, such as phase_train, must be "
    "made an initializer first (the value False)"
)


def check_wire(data: bytes) -> None:
    """Check that the bytes are a protobuf message that takes little more memory parsed than they do themselves.

    Raises:
        CheckpointError: if they are damaged, or hold more fields than any face network's file, or nested graphs.
    """
    place, fields, other = 0, 0, 0
    open_messages = [("model", len(data))]
    while open_messages:
        kind, end = open_messages[-1]
        if place == end:
            open_messages.pop()
            continue
        fields += 1
        place, stop, number = _field(data, place, end)
        child = _MESSAGES[kind].get(number) if stop > place else None
        if stop > place:
            _check_allowed(kind, number)
        if child:
            open_messages.append((child, stop))
            continue
        other += 0 if (kind, number) in _PAYLOADS else stop - place
        place = stop
        _check_amount(fields, other)


def _field(data: bytes, place: int, end: int) -> tuple[int, int, int]:
    """Return where a field's content begins and ends (the same place where it has no length) and its number."""
    tag, place = _varint(data, place, end)
    wire = tag & 7
    if wire == _BYTES:
        size, place = _varint(data, place, end)
        stop = place + size
    elif wire == _VARINT:
        stop = place = _varint(data, place, end)[1]
    elif wire in _FIXED_BYTES:
        stop = place = place + _FIXED_BYTES[wire]
    else:
        raise damaged("it holds what no ONNX file does")
    if stop > end:
        raise damaged("a part of it claims more bytes than are there")
    return place, stop, tag >> 3


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    value, shift = 0, 0
    while place < end and shift < 70:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
    raise damaged("it ends, or goes wrong, in the middle of a number")


def _check_allowed(kind: str, number: int) -> None:
    refused = _REFUSED.get((kind, number))
    if refused:
        raise CheckpointError(
            f"the ONNX file holds {refused}, which a face network's inference does not need", fix=_FIX
        )


def _check_amount(fields: int, other: int) -> None:
    if fields > _MOST_FIELDS or other > _MOST_OTHER_BYTES:
        raise CheckpointError(
            f"the ONNX file holds more than {_MOST_FIELDS} fields or {_MOST_OTHER_BYTES} bytes beside its weights, "
            "more than any face network's",
            fix=_FIX + ", its weights as raw data",
        )


def check_names(message: Any) -> None:  # noqa: ANN401 - onnx ships no types
    """Check that every name, operator and domain is text; what people wrote beside the graph is read by `as_text`.

    Runtimes and readers take for granted that names are text, and each would fail in a way of its own.

    Raises:
        CheckpointError: if one is not.
    """
    for field, value in message.ListFields():
        if field.name in _REMARKS or field.type not in (field.TYPE_MESSAGE, field.TYPE_STRING):
            continue
        single = isinstance(value, str | bytes) or hasattr(value, "ListFields")
        for part in [value] if single else value:
            if field.type == field.TYPE_MESSAGE:
                check_names(part)
            elif isinstance(part, bytes):
                raise damaged(f"{as_text(part)[:40]!r}, one of its {field.name}, is not text")


def damaged(why: str) -> CheckpointError:
    """Return the error for a file that is not, or no longer, an ONNX file."""
    return CheckpointError(
        f"the file is not an ONNX model, damaged or cut short: {why}", fix="copy, download or export it again"
    )
