"""The fields at the top of a protobuf message, without its schema: enough to tell whose message a file is."""

import io
from collections.abc import Mapping
from typing import BinaryIO

Fields = Mapping[int, int | bytes]
"""Field number -> its number, or its first bytes, where it stands first."""

_MOST_FIELDS = 4096
_FIRST_BYTES = 256
_LONGEST = 1 << 40
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5


def top_fields(stream: BinaryIO) -> Fields:
    """Return the fields that a message begins with, as far as it is one."""
    stream.seek(0)
    found: dict[int, int | bytes] = {}
    for _ in range(_MOST_FIELDS):
        tag = _varint(stream)
        if tag is None or tag >> 3 == 0:
            break
        value = _value(stream, tag & 7)
        if value is None:
            break
        found.setdefault(tag >> 3, value)
    return found


def message_in(content: bytes) -> Fields | None:
    """Return the fields that a field's first bytes begin with; None if they are a text."""
    if content and content.isascii() and content.decode("ascii").isprintable():
        return None
    return top_fields(io.BytesIO(content)) or None


def _value(stream: BinaryIO, kind: int) -> int | bytes | None:
    """Return a field's value; of bytes the first ones, also where the file ends in the middle of them."""
    if kind == _VARINT:
        return _varint(stream)
    if kind in (_EIGHT, _FOUR):
        return stream.read(8 if kind == _EIGHT else 4) or None
    length = _varint(stream) if kind == _BYTES else None
    if length is None:
        return None
    first = stream.read(min(length, _FIRST_BYTES))
    stream.seek(min(length, _LONGEST) - len(first), io.SEEK_CUR)
    return first


def _varint(stream: BinaryIO) -> int | None:
    value = 0
    for place in range(10):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            return value
    return None
