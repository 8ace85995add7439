"""What a torch pickle says it holds, read off its opcodes: nothing is imported, called or allocated."""

import pickletools
from dataclasses import dataclass
from typing import IO

from qface_toolkit.untrusted._machine import STEPS, Machine, Opcode, Step, pushing
from qface_toolkit.untrusted._stand_ins import NAMES

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
    "__builtin__ set",
    "__builtin__ complex",
    *(f"torch {name}" for name in ("float16", "bfloat16", "float32", "float64", "int8", "uint8", "int32", "int64")),
}
"""All that a state dict, and the plain numbers saved beside it, need."""

_OPAQUE = object()
"""Stands for everything that is of no interest here: containers, tensors, what calls would give."""


@dataclass(frozen=True)
class StorageClaim:
    """A storage that the pickle refers to by its key, and the bytes it says are in there."""

    key: str
    size_bytes: int


@dataclass(frozen=True)
class Claims:
    """The storages that a pickle asks for, and the names in it that nothing can stand for ("module name")."""

    storages: tuple[StorageClaim, ...]
    foreign: frozenset[str]


def read_claims(stream: IO[bytes]) -> Claims:
    """Read one pickle off the stream, up to and including its STOP, and return what it claims.

    Raises:
        ValueError: if it is no pickle, or refers to storages otherwise than torch.save does, or never seems to end.
    """
    reader = _Reader()
    try:
        reader.run(stream)
    except ValueError:
        if not reader.foreign | reader.beside:  # which say more of the file than how long an array of theirs is
            raise
        reader.foreign |= reader.beside
    return Claims(tuple(reader.storages), frozenset(reader.foreign))


class _Reader(Machine):
    """Sees the names, and the tuples ("storage", type, key, device, count, ...) by which storages are referred to."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: list[StorageClaim] = []
        self.foreign: set[str] = set()
        self.beside: set[str] = set()

    def other(self, opcode: Opcode) -> Step:
        """Let an opcode take from the stack and put there as many values as it is known to."""

        def follow(machine: Machine, _argument: object) -> None:
            taken = opcode.stack_before
            if pickletools.markobject in taken:
                machine.pop_items()
                taken = taken[: taken.index(pickletools.markobject)]
            for _ in taken:
                machine.pop()
            for _ in opcode.stack_after:
                machine.push(_OPAQUE)

        return follow

    def name(self, name: str) -> None:
        if name in NAMES:
            self.beside.add(name)
        elif name not in _KNOWN:
            self.foreign.add(name)
        self.push(name)

    def name_with_items(self, name: str) -> None:
        self.pop_items()
        self.name(name)

    def name_from_stack(self) -> None:
        self.gather(2)
        self.foreign.add("names put together at run time (pickle protocol 4)")

    def refer(self) -> None:
        reference = self.pop()
        if isinstance(reference, tuple) and len(reference) > 1 and reference[0] == "module":
            self.foreign.add(str(reference[1]))
        else:
            self.storages.append(_storage_claim(reference))
        self.push(_OPAQUE)

    steps = {
        **STEPS,
        "SHORT_BINSTRING": pushing(str),
        "GLOBAL": name,
        "INST": name_with_items,
        "STACK_GLOBAL": lambda reader, _: reader.name_from_stack(),
        "BINPERSID": lambda reader, _: reader.refer(),
    }


def _storage_claim(reference: object) -> StorageClaim:
    if not (isinstance(reference, tuple) and len(reference) in (5, 6) and reference[0] == "storage"):
        raise ValueError("a storage is referred to otherwise than torch.save does")
    _, kind, key, _, count = reference[:5]
    if not (isinstance(kind, str) and isinstance(key, str) and isinstance(count, int) and count >= 0):
        raise ValueError("a storage is referred to otherwise than torch.save does")
    return StorageClaim(key, count * _ELEMENT_BYTES.get(kind.partition(" ")[2], 16))
