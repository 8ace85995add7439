"""Read a pickle of encoded images and flags: lists, tuples, bytes, bools, ints and uint8 arrays, and nothing else.

The pairs files of the field are pickles. The names in one are compared with those that NumPy writes and never looked
up, and no call copies what stands in the file.
"""

from dataclasses import dataclass
from math import prod
from typing import IO

from qface_toolkit.untrusted._machine import STEPS, Machine, Opcode, Step, Word, pushing

_UINT8 = (b"u1", b"|u1", "u1", "|u1")


@dataclass
class Array:
    """A uint8 array: its bytes, and the shape that they fill exactly; without bytes until they are known."""

    data: bytes | None = None
    shape: tuple[int, ...] = ()
    order: str = "C"

    def fill(self, data: object, dtype: object, shape: object, order: str) -> None:
        """Take what the array holds.

        Raises:
            ValueError: if that is no uint8 array of one to three dimensions.
        """
        raw = _as_bytes(data)
        if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or not 1 <= len(shape) <= 3:
            raise ValueError("an array is not one of 8-bit pixels")
        if any(type(size) is not int or size < 1 for size in shape) or prod(shape) != len(raw):
            raise ValueError("an array's shape does not fit its bytes")
        self.data, self.shape, self.order = raw, shape, order


@dataclass(frozen=True)
class _Name:
    """One of the few things that may be called, by the name it is known by; see `_NAMES`."""

    what: str


class _Dtype:
    """The type of 8-bit unsigned numbers; there is no other."""


_NAMES = {
    "numpy ndarray": "class",
    "numpy dtype": "dtype",
    "numpy.core.multiarray _reconstruct": "empty",
    "numpy._core.multiarray _reconstruct": "empty",
    "numpy.core.numeric _frombuffer": "filled",
    "numpy._core.numeric _frombuffer": "filled",
    "_codecs encode": "encode",
}


def read_plain_pickle(stream: IO[bytes]) -> object:
    """Return what the pickle on a stream holds: lists, tuples, bytes, bools, ints, `Array`s, or a rest of a name.

    Raises:
        ValueError: if it is no pickle, or needs anything else, or never seems to end.
    """
    return _Reader().run(stream)


class _Reader(Machine):
    """Builds what a list of images is made of."""

    def other(self, opcode: Opcode) -> Step:
        """Refuse all other opcodes."""
        raise ValueError(f"it holds more than images and flags ({opcode.name})")

    def extend(self, items: list[object]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise ValueError("it appends to what is no list")
        target.extend(items)

    def name(self, name: str) -> None:
        if name not in _NAMES:
            raise ValueError(f"it asks for {name[:80]!r}, which no list of images needs")
        self.push(_Name(_NAMES[name]))

    def name_from_stack(self) -> None:
        name, module = self.pop(), self.pop()
        self.name(f"{module} {name}" if isinstance(name, Word) and isinstance(module, Word) else "a computed name")

    def call(self) -> None:
        arguments, target = self.pop(), self.pop()
        if not isinstance(target, _Name) or not isinstance(arguments, tuple):
            raise ValueError("it calls something")
        self.push(_called(target.what, arguments))

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, Array) and target.data is None and isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran, data = state
            target.fill(data, dtype, shape, "F" if fortran else "C")
        elif not isinstance(target, _Dtype):
            raise ValueError("it sets the insides of something")

    steps = {
        **STEPS,
        "EMPTY_LIST": pushing(lambda _: []),
        "LIST": lambda reader, _: reader.push(reader.pop_items()),
        "APPEND": lambda reader, _: reader.extend([reader.pop()]),
        "APPENDS": lambda reader, _: reader.extend(reader.pop_items()),
        "NEWTRUE": pushing(lambda _: True),
        "NEWFALSE": pushing(lambda _: False),
        **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), pushing(bytes)),
        # The strings of Python 2 are bytes; pickletools shows them as text.
        **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), pushing(lambda text: text.encode("latin-1"))),
        "GLOBAL": name,
        "STACK_GLOBAL": lambda reader, _: reader.name_from_stack(),
        "REDUCE": lambda reader, _: reader.call(),
        "BUILD": lambda reader, _: reader.build(),
    }


def _called(what: str, arguments: tuple[object, ...]) -> object:
    """Return what one of the known calls gives, for the arguments that NumPy and Python write and no others."""
    if what == "empty" and len(arguments) == 3 and arguments[0] == _Name("class"):
        return Array()
    if what == "dtype" and arguments and arguments[0] in _UINT8:
        return _Dtype()
    if what == "encode" and len(arguments) == 2 and isinstance(arguments[0], Word) and arguments[1] == "latin1":
        return arguments[0].as_bytes()
    if what == "filled" and len(arguments) == 4 and arguments[3] in ("C", "F"):
        array = Array()
        array.fill(*arguments[:3], order=str(arguments[3]))
        return array
    raise ValueError("an array in it is not one of 8-bit pixels")


def _as_bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("an array's content is not bytes")
    return value
