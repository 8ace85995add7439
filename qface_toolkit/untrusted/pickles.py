"""Read a pickle of encoded images and flags without pickle: a machine that knows two dozen opcodes and calls nothing.

The pairs files of the field are pickles, and a pickle is a program. This machine builds lists, tuples, bytes, bools,
ints and uint8 arrays; the names in it are compared with those that NumPy writes and never looked up. Memory is bounded
by the file's size: a piece is as long as what stands there, no call copies it twice, and steps are counted.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import IO, Any, cast

MOST_STEPS = 2_000_000
"""Ten times what the largest public set, 14,000 images, takes where each image is an array."""
_LONGEST_BYTES = 64 << 20
_LONGEST_LINE = 1024
_UINT8 = (b"u1", b"|u1", "u1", "|u1")
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}


class Word(str):
    """Text; none belongs in what is returned, but NumPy's and Python 2's pickles name their parts with it."""

    def as_bytes(self) -> bytes:
        """Return the bytes that Python 3 hides in text in old protocols, the same object each time.

        Raises:
            ValueError: if there are none.
        """
        if not hasattr(self, "_bytes"):
            self._bytes = self.encode("latin-1")
        return self._bytes


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


class _Mark:
    """Where a list or tuple on the stack begins."""


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
    machine, sober = _Machine(), cast(IO[bytes], _Sober(stream))
    for _ in range(MOST_STEPS):
        opcode = _OPCODES.get(sober.read(1).decode("latin-1"))
        if opcode is None:
            raise ValueError("it is no pickle, or cut short")
        if opcode.name == "STOP":
            return machine.result()
        # Looked up before the argument is read: reading some of them already interprets what stands there.
        step = _STEPS.get(opcode.name)
        if step is None:
            raise ValueError(f"it holds more than images and flags ({opcode.name})")
        step(machine, _argument(opcode, sober))
    raise ValueError("it has too many steps for a list of images")


def _argument(opcode: pickletools.OpcodeInfo, stream: IO[bytes]) -> object:
    """Return what stands behind an opcode; a name is read as it stands, where pickletools would resolve escapes."""
    if opcode.name == "GLOBAL":
        module, name = stream.readline(), stream.readline()
        return f"{module.decode('latin-1').rstrip()} {name.decode('latin-1').rstrip()}"
    return opcode.arg.reader(stream) if opcode.arg else None


class _Sober:
    """A stream that reads no more at once than an image takes, whatever a damaged length says."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LONGEST_BYTES:
            raise ValueError(f"it announces {size} bytes in one piece")
        return self._stream.read(size)

    def readline(self) -> bytes:
        return self._stream.readline(_LONGEST_LINE)


class _Machine:
    """The stack and the memo of a pickle that is being read."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}

    def result(self) -> object:
        if len(self.stack) != 1:
            raise ValueError("it ends in the middle")
        return self.pop()

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        value = self.top()
        self.stack.pop()
        return value

    def top(self) -> object:
        if not self.stack or isinstance(self.stack[-1], _Mark):
            raise ValueError("it takes what it never put there")
        return self.stack[-1]

    def pop_items(self) -> list[object]:
        """Return what stands above the last mark, and remove both."""
        place = next((at for at in range(len(self.stack) - 1, -1, -1) if isinstance(self.stack[at], _Mark)), None)
        if place is None:
            raise ValueError("it ends a list that it never began")
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def keep(self, place: object) -> None:
        self.memo[_as_int(place)] = self.top()

    def recall(self, place: object) -> None:
        if place not in self.memo:
            raise ValueError("it refers to what it never kept")
        self.push(self.memo[_as_int(place)])

    def extend(self, items: list[object]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise ValueError("it appends to what is no list")
        target.extend(items)

    def append(self) -> None:
        self.extend([self.pop()])

    def gather(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

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


def _as_int(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError("it is no pickle")
    return value


def _nothing(machine: _Machine, argument: object) -> None:
    """Take no notice."""


def _pushing(convert: Callable[[Any], object]) -> Callable[[_Machine, Any], None]:
    return lambda machine, argument: machine.push(convert(argument))


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _nothing),
    "MARK": _pushing(lambda _: _Mark()),
    "POP": lambda machine, _: cast(None, machine.pop()),
    "MEMOIZE": lambda machine, _: machine.keep(len(machine.memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.keep),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
    "EMPTY_LIST": _pushing(lambda _: []),
    "LIST": lambda machine, _: machine.push(machine.pop_items()),
    "APPEND": lambda machine, _: machine.append(),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_items()),
    "EMPTY_TUPLE": _pushing(lambda _: ()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_items())),
    "TUPLE1": lambda machine, _: machine.gather(1),
    "TUPLE2": lambda machine, _: machine.gather(2),
    "TUPLE3": lambda machine, _: machine.gather(3),
    # Part of the state of every dtype.
    "NONE": _pushing(lambda _: None),
    "NEWTRUE": _pushing(lambda _: True),
    "NEWFALSE": _pushing(lambda _: False),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"), _pushing(lambda number: number)),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _pushing(bytes)),
    # The strings of Python 2 are bytes; pickletools shows them as text.
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _pushing(lambda text: text.encode("latin-1"))),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _pushing(Word)),
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": lambda machine, _: machine.name_from_stack(),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}
