"""Follow a stranger's pickle without pickle: a machine of a stack and a memo that looks nothing up and calls nothing.

A pickle is a program. What its names and calls stand for is decided by whoever derives from `Machine`. Memory is
bounded by the file's size: a piece is as long as what stands there, and steps are counted.
"""

import codecs
import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any, ClassVar, cast

MOST_STEPS = 2_000_000
"""Ten times what the largest public set of images takes, or a PocketNet with its optimizer's state."""
_LONGEST_BYTES = 64 << 20
_LONGEST_LINE = 1024
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}

Opcode = pickletools.OpcodeInfo
Step = Callable[[Any, Any], object]
"""What an opcode does to a machine, given what stands behind it; what it returns is of no use."""


class Word(str):
    """Text; NumPy's and Python 2's pickles name their parts with it."""

    def as_bytes(self) -> bytes:
        """Return the bytes that Python 3 hides in text in old protocols, the same object each time.

        Raises:
            ValueError: if there are none.
        """
        if not hasattr(self, "_bytes"):
            self._bytes = self.encode("latin-1")
        return self._bytes


class _Mark:
    """Where a list or tuple on the stack begins."""


class _Sober:
    """A stream that reads no more at once than an image or a weight's name takes, whatever a damaged length says.

    A few bytes can announce an array of exabytes, and Python reserves the memory before it reads.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LONGEST_BYTES:
            raise ValueError(f"it announces {size} bytes in one piece")
        return self._stream.read(size)

    def readline(self) -> bytes:
        return self._stream.readline(_LONGEST_LINE)

    def readtext(self) -> bytes:
        """Return a line that may hold an image, as the first protocol writes it."""
        return self._stream.readline(_LONGEST_BYTES).rstrip(b"\r\n")


def argument_of(opcode: Opcode, stream: _Sober) -> object:
    """Return what stands behind an opcode; a name is read as it stands, where pickletools would resolve escapes.

    A string of the first protocol is bytes here, which pickletools takes for ASCII.
    """
    if opcode.name == "GLOBAL":
        module, name = stream.readline(), stream.readline()
        return f"{module.decode('latin-1').rstrip()} {name.decode('latin-1').rstrip()}"
    if opcode.name == "STRING":
        return _unquoted(stream.readtext().strip())
    if opcode.name == "UNICODE":
        return stream.readtext().decode("raw-unicode-escape")
    return opcode.arg.reader(cast(IO[bytes], stream)) if opcode.arg else None


def _unquoted(text: bytes) -> bytes:
    if len(text) < 2 or text[:1] not in (b"'", b'"') or text[-1:] != text[:1]:
        raise ValueError("a string in it has no quotes")
    plain, _ = codecs.escape_decode(text[1:-1])
    return bytes(plain)


class Machine:
    """The stack and the memo of a pickle that is being read; `steps` says what each opcode does, by its name."""

    steps: ClassVar[Mapping[str, Step]]

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}

    def run(self, stream: IO[bytes]) -> object:
        """Follow one pickle, up to and including its STOP, and return what it leaves.

        Raises:
            ValueError: if it is no pickle, takes what it never put there, or never seems to end.
        """
        sober = _Sober(stream)
        for _ in range(MOST_STEPS):
            opcode = _OPCODES.get(sober.read(1).decode("latin-1"))
            if opcode is None:
                raise ValueError("it is no pickle, or cut short")
            if opcode.name == "STOP":
                return self._result()
            # Looked up before the argument is read: reading some of them already interprets what stands there.
            step = self.steps.get(opcode.name) or self.other(opcode)
            step(self, argument_of(opcode, sober))
        raise ValueError("it is too long: too many steps for a list of images or weights")

    def other(self, opcode: Opcode) -> Step:
        """Return what an opcode does that `steps` does not have.

        Raises:
            ValueError: if it may not be there.
        """
        raise NotImplementedError

    def _result(self) -> object:
        if len(self.stack) != 1:
            raise ValueError("it ends in the middle")
        return self.pop()

    def push(self, value: object) -> None:
        """Put a value onto the stack."""
        self.stack.append(value)

    def pop(self) -> object:
        """Take the uppermost value off the stack."""
        value = self.top()
        self.stack.pop()
        return value

    def top(self) -> object:
        """Return the uppermost value."""
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

    def gather(self, count: int) -> None:
        """Make a tuple of the uppermost values."""
        items = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def keep(self, place: object) -> None:
        """Remember the uppermost value."""
        self.memo[_as_int(place)] = self.top()

    def recall(self, place: object) -> None:
        """Put a remembered value onto the stack."""
        if place not in self.memo:
            raise ValueError("it refers to what it never kept")
        self.push(self.memo[_as_int(place)])


def _as_int(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError("it is no pickle")
    return value


def pushing(convert: Callable[[Any], object]) -> Step:
    """Return the step that pushes what becomes of the argument."""
    return lambda machine, argument: machine.push(convert(argument))


def nothing(_machine: Machine, _argument: object) -> None:
    """Take no notice."""


STEPS: Mapping[str, Step] = {
    **dict.fromkeys(("PROTO", "FRAME"), nothing),
    "MARK": pushing(lambda _: _Mark()),
    "POP": lambda machine, _: machine.pop(),
    "MEMOIZE": lambda machine, _: machine.keep(len(machine.memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Machine.keep),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine.recall),
    "EMPTY_TUPLE": pushing(lambda _: ()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_items())),
    "TUPLE1": lambda machine, _: machine.gather(1),
    "TUPLE2": lambda machine, _: machine.gather(2),
    "TUPLE3": lambda machine, _: machine.gather(3),
    "NONE": pushing(lambda _: None),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"), pushing(lambda number: number)),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"), pushing(Word)),
}
"""What opcodes mean for everybody."""
