"""The head of a safetensors file: safetensors itself reads it from a path alone, and here bytes were read already."""

import json
from collections.abc import Mapping

LARGEST_HEADER_BYTES = 100_000_000
"""As safetensors has it."""
_LENGTH_BYTES = 8


def metadata_of(data: bytes) -> Mapping[str, str]:
    """Return the text metadata of a safetensors file, of which `data` are at least the first bytes.

    Raises:
        ValueError: if this is no such file.
    """
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if len(data) < _LENGTH_BYTES or length > min(LARGEST_HEADER_BYTES, len(data) - _LENGTH_BYTES):
        raise ValueError("no head of a safetensors file")
    try:
        head = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
    except RecursionError as error:
        raise ValueError("brackets nested too deep") from error
    told = head.get("__metadata__", {}) if isinstance(head, dict) else None
    if not isinstance(told, dict) or not all(isinstance(text, str) for text in told.values()):
        raise ValueError("no head of a safetensors file")
    return told
