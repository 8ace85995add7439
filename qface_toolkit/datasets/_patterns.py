"""Names of tar shards written short: a range in braces, a glob, or both, and never a command or an address."""

import glob
import itertools
import re
from pathlib import Path

from qface_toolkit.errors import CalibrationError

MOST_SHARDS = 100_000
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_RANGE = re.compile(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}")
_LOCAL = "download the shards, and give their path: dir/train-{000..009}.tar or dir/*.tar"


def names_shards(source: str) -> bool:
    """Tell whether a source is meant to name shards, be it in a way that is refused."""
    return source.endswith((".tar", *COMPRESSED)) or source.startswith("pipe:") or "://" in source


def shard_files(source: str) -> list[Path]:
    """Return the files that a pattern names: ranges in their order, what a glob finds sorted by name.

    Raises:
        CalibrationError: if it names a command, an address, compressed files, too many files or none.
    """
    if _URL.match(source):
        what = "shards are read from local files alone: a command or an address is not followed"
        raise CalibrationError(what, where=source, fix=_LOCAL)
    if source.endswith(COMPRESSED):
        what = "compressed shards cannot be read in any order"
        raise CalibrationError(what, where=source, fix="decompress them to .tar files")
    if Path(source).is_file():
        return [Path(source)]
    found = [name for pattern in _expanded(source) for name in _globbed(pattern)]
    if not found:
        raise CalibrationError("there is no shard of this name", where=source, fix="check the path and the pattern")
    if len(found) > MOST_SHARDS:
        raise _too_many(source)
    return [Path(name) for name in dict.fromkeys(found)]


def _globbed(pattern: str) -> list[str]:
    # pathlib's own takes no absolute pattern.
    return sorted(glob.glob(pattern)) if set(pattern) & set("*?[") else [pattern]  # noqa: PTH207


def _expanded(source: str) -> list[str]:
    """Return what ranges in braces stand for, the last one running fastest; zeros before a number stay."""
    texts = _RANGE.split(source)
    ends = list(zip(texts[1::3], texts[2::3], strict=True))
    total = 1
    for low, high in ends:
        total *= max(int(high) - int(low) + 1, 0)
        if total > MOST_SHARDS:
            raise _too_many(source)
    if not total:
        raise CalibrationError("a range in braces ends before it begins", where=source, fix="write {000..009}")
    rows = itertools.product(*(_numbers(low, high) for low, high in ends))
    return ["".join(itertools.chain(*itertools.zip_longest(texts[::3], row, fillvalue=""))) for row in rows]


def _numbers(low: str, high: str) -> list[str]:
    padded = any(len(end) > 1 and end.startswith("0") for end in (low, high))
    width = max(len(low), len(high)) if padded else 0
    return [f"{number:0{width}d}" for number in range(int(low), int(high) + 1)]


def _too_many(source: str) -> CalibrationError:
    return CalibrationError(f"this names more than {MOST_SHARDS} shards", where=source, fix="write a shorter range")
