"""Read a pickle of encoded images and flags: lists, tuples, bytes, numbers and arrays, and nothing else.

The pairs files of the field are pickles. The names in one are compared with those that NumPy writes and never looked
up, and no call copies what stands in the file.
"""

from dataclasses import dataclass
from typing import IO

from qface_toolkit.untrusted._machine import STEPS, Machine, Opcode, Step, Word, pushing
from qface_toolkit.untrusted.arrays import Array, Dtype, dtype_of


@dataclass(frozen=True)
class _Name:
    """One of the few things that may be called, by the name it is known by; see `_NAMES`."""

    what: str


_NAMES = {
    "numpy ndarray": "class",
    "numpy dtype": "dtype",
    "numpy.core.multiarray _reconstruct": "empty",
    "numpy._core.multiarray _reconstruct": "empty",
    "numpy.core.numeric _frombuffer": "filled",
    "numpy._core.numeric _frombuffer": "filled",
    "numpy.core.multiarray scalar": "scalar",
    "numpy._core.multiarray scalar": "scalar",
    "_codecs encode": "encode",
    "builtins bytearray": "bytearray",
    "__builtin__ bytearray": "bytearray",
}


def read_plain_pickle(stream: IO[bytes]) -> object:
    """Return what the pickle on a stream holds: lists, tuples, bytes, numbers, `Array`s, or a rest of a name.

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
        if isinstance(target, Array) and target.dtype is None and isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran, data = state
            target.fill(data, dtype, shape, "F" if fortran else "C")
        elif isinstance(target, Dtype):
            target.build(state)
        else:
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
        # The strings of Python 2 are bytes; pickletools shows those of protocols 1 and 2 as text.
        **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), pushing(lambda text: text.encode("latin-1"))),
        "STRING": pushing(bytes),
        **dict.fromkeys(("FLOAT", "BINFLOAT"), pushing(float)),
        "GLOBAL": name,
        "STACK_GLOBAL": lambda reader, _: reader.name_from_stack(),
        "REDUCE": lambda reader, _: reader.call(),
        "BUILD": lambda reader, _: reader.build(),
    }


def _called(what: str, arguments: tuple[object, ...]) -> object:
    """Return what one of the known calls gives, for the arguments that NumPy and Python write and no others."""
    if what == "empty" and len(arguments) == 3 and arguments[0] == _Name("class"):
        return Array()
    if what == "dtype" and arguments:
        return dtype_of(arguments[0])
    if what in ("encode", "bytearray") and arguments:
        return _plain_bytes(*arguments)
    if what == "filled" and len(arguments) == 4 and arguments[3] in ("C", "F"):
        return _filled(*arguments[:3], order=str(arguments[3]))
    if what == "scalar" and len(arguments) == 2:
        return _filled(arguments[1], arguments[0], (), order="C")
    raise ValueError("an array in it is not one of 8-bit pixels or flags")


def _filled(data: object, dtype: object, shape: object, *, order: str) -> Array:
    array = Array()
    array.fill(data, dtype, shape, order)
    return array


def _plain_bytes(content: object, encoding: object = None, *rest: object) -> bytes:
    """Return the bytes that old protocols hide in text, or that a bytearray is made of."""
    if isinstance(content, Word) and encoding in ("latin1", "latin-1") and not rest:
        return content.as_bytes()
    if isinstance(content, bytes) and encoding is None:
        return content
    raise ValueError("something in it is made of what are no bytes")
