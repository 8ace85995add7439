"""What a torch pickle says it holds, read off its opcodes: nothing is imported, called or allocated."""

import pickletools
from dataclasses import dataclass
from typing import IO, cast

_ELEMENT_BYTES = {
    "ByteStorage": 1,
    "CharStorage": 1,
    "BoolStorage": 1,
    "UntypedStorage": 1,
    "ShortStorage": 2,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "IntStorage": 4,
    "FloatStorage": 4,
    "LongStorage": 8,
    "DoubleStorage": 8,
}
"""The storages that dense tensors of real numbers are made of."""

_KNOWN = {
    "collections OrderedDict",
    "collections Counter",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch.nn.parameter Parameter",
    "torch Size",
    "torch device",
    "_codecs encode",
    *(f"torch {name}" for name in _ELEMENT_BYTES),
    "torch.storage UntypedStorage",
}
"""All that a state dict, and the plain numbers saved beside it, need."""

_MOST_OPCODES = 2_000_000
"""A PocketNet with its optimizer's state takes a tenth of this; without a limit a file could keep us busy for hours."""

_LONGEST_BYTES = 64 << 20
"""The longest piece of a pickle that is read at once."""

_PLAIN = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "SHORT_BINSTRING", "NONE", "GLOBAL"}


@dataclass(frozen=True)
class StorageClaim:
    """A storage that the pickle refers to by its key, and the bytes it says are in there."""

    key: str
    size_bytes: int


@dataclass(frozen=True)
class Claims:
    """The storages that a pickle asks for, and the names in it that no state dict needs ("module name")."""

    storages: tuple[StorageClaim, ...]
    foreign: frozenset[str]


def read_claims(stream: IO[bytes]) -> Claims:
    """Read one pickle off the stream, up to and including its STOP, and return what it claims.

    Raises:
        ValueError: if it is no pickle, or refers to storages otherwise than torch.save does, or never seems to end.
    """
    reader = _Reader()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], _Sober(stream)))):
        if count > _MOST_OPCODES:
            raise ValueError("the pickle is too long for a state dict")
        reader.step(opcode.name, argument)
    return Claims(tuple(reader.storages), frozenset(reader.foreign))


class _Sober:
    """A stream that refuses to read more at once than a state dict's pickle ever holds in one piece.

    A few damaged bytes can announce an array of exabytes, and Python reserves the memory before it reads.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.readline = stream.readline
        self.tell = stream.tell

    def read(self, count: int) -> bytes:
        """Read this many bytes.

        Raises:
            ValueError: if they are too many.
        """
        if count > _LONGEST_BYTES:
            raise ValueError(f"the pickle announces {count} bytes in one piece")
        return self.stream.read(count)


class _Reader:
    """Follows just enough of the pickle machine to see the tuples ("storage", type, key, device, count, ...)."""

    def __init__(self) -> None:
        self.storages: list[StorageClaim] = []
        self.foreign: set[str] = set()
        self._memo: dict[int, object] = {}
        self._items: list[object] | None = None
        self._top: object = None

    def step(self, name: str, argument: object) -> None:
        if name in ("BINPUT", "LONG_BINPUT"):
            self._memo[_as_int(argument)] = self._top
        elif name == "MARK":
            self._items, self._top = [], None
        elif name == "TUPLE":
            self._top, self._items = None if self._items is None else tuple(self._items), None
        elif name == "BINPERSID":
            self._refer(self._top)
            self._top = None
        else:
            self._push(name, argument)

    def _refer(self, reference: object) -> None:
        if isinstance(reference, tuple) and len(reference) > 1 and reference[0] == "module":
            self.foreign.add(str(reference[1]))
        else:
            self.storages.append(_storage_claim(reference))

    def _push(self, name: str, argument: object) -> None:
        if name in ("GLOBAL", "INST") and argument not in _KNOWN:
            self.foreign.add(str(argument))
        if name == "STACK_GLOBAL":
            self.foreign.add("names put together at run time (pickle protocol 4)")
        if name in ("BINGET", "LONG_BINGET"):
            self._top = self._memo.get(_as_int(argument))
        else:
            self._top = argument if name in _PLAIN else None
        if self._items is not None:
            self._items.append(self._top)


def _storage_claim(reference: object) -> StorageClaim:
    if not (isinstance(reference, tuple) and len(reference) in (5, 6) and reference[0] == "storage"):
        raise ValueError("a storage is referred to otherwise than torch.save does")
    _, kind, key, _, count = reference[:5]
    if not (isinstance(kind, str) and isinstance(key, str) and isinstance(count, int) and count >= 0):
        raise ValueError("a storage is referred to otherwise than torch.save does")
    return StorageClaim(key, count * _ELEMENT_BYTES.get(kind.partition(" ")[2], 16))


def _as_int(argument: object) -> int:
    if not isinstance(argument, int):
        raise ValueError("not a pickle")
    return argument
