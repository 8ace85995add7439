"""JSON in and out: read from a file that is not trusted, and written as files of ours hold it."""

import json
import math
from pathlib import Path
from typing import NoReturn

from qface_toolkit.errors import ArtifactError
from qface_toolkit.untrusted.reading import read_file
from qface_toolkit.untrusted.writing import write_inside

LARGEST_BYTES = 16_000_000
"""Of a file of ours, which may have been changed since."""


def write_json(path: Path, values: object) -> None:
    """Write plain values as JSON, whole or not at all; NaN is a ValueError."""
    write_inside(path.parent, path.name, json_bytes(values))


def json_bytes(values: object) -> bytes:
    """Return plain values as the JSON that files of ours hold; NaN is a ValueError."""
    return (json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def read_json(path: Path, largest_bytes: int = LARGEST_BYTES) -> dict[str, object]:
    """Return the JSON object in a file that is not trusted.

    Raises:
        ArtifactError: if the file is missing, too large, not a JSON object or holds NaN or infinity.
    """
    data = read_file(path, largest_bytes, fix="give the folder that `compress` wrote")
    try:
        values = json.loads(data, parse_constant=_not_a_number, parse_float=_finite)
    # RecursionError: brackets nested a thousand deep.
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"this is not JSON that can be used: {error}", where=str(path), fix="make it again"
        ) from error
    if not isinstance(values, dict):
        raise ArtifactError("this is not a JSON object", where=str(path), fix="make it again")
    return values


def _not_a_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a figure")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _not_a_number(text)
    return number
