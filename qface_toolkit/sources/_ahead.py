"""Draw the pictures of a set in a process of their own before they are needed: drawing keeps one core busy alone.

The process is a new one and not a fork: this one may hold torch's threads.
"""

import json
import math
import subprocess
import sys
import tempfile

import numpy as np

from qface_toolkit.framing import STANDARD, Frame
from qface_toolkit.sources._base import Crop
from qface_toolkit.sources._sets import find_set

_MAIN = "from qface_toolkit.sources._ahead import main; main()"
PROGRAM = f"import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); {_MAIN}"


class DrawnAhead:
    """The first pictures of a named set, being drawn while the block runs; what is not done at its end is given up.

    Without `apart` no process is started, and they are drawn when they are asked for.
    """

    def __init__(self, name: str, count: int, frame: Frame = STANDARD, *, apart: bool) -> None:
        self.name, self.count, self.frame = name, count, frame
        self._made = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the block ends
        self._process = self._started() if apart else None

    def __enter__(self) -> "DrawnAhead":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._made.close()

    def crops(self) -> Crop:
        """Return the pictures, uint8 [count, H, W, 3]; a process that failed is no reason to go without them."""
        if self._process is not None and self._process.wait() == 0:
            self._made.seek(0)
            made = np.frombuffer(self._made.read(), np.uint8)
            shape = self.count, *self.frame.size, 3
            if made.size == math.prod(shape):
                return made.reshape(shape)
        return draw(self.name, self.count, self.frame)

    def _started(self) -> "subprocess.Popen[bytes] | None":
        # The child finds the package where this process found it, and looks for nothing in the folder it stands in.
        places = json.dumps([place for place in sys.path if place])
        asked = json.dumps([self.name, self.count, self.frame.crop, self.frame.size])
        command = [sys.executable, "-I", "-c", PROGRAM, places, asked]
        try:
            quiet = subprocess.DEVNULL
            return subprocess.Popen(command, stdin=quiet, stdout=self._made, stderr=quiet)
        except OSError:
            return None


def draw(name: str, count: int, frame: Frame = STANDARD) -> Crop:
    """Return the first pictures of a named set in a frame, uint8 [count, H, W, 3]."""
    images = find_set(name).open(count=count, frame=frame)
    return np.stack([images.crop(index) for index in range(count)])


def main() -> None:
    """Draw the set that is asked for, so many pictures of it in a frame, and write their pixels to standard output."""
    name, count, crop, size = json.loads(sys.argv[1])
    sys.stdout.buffer.write(draw(name, count, Frame(crop, tuple(size))).tobytes())
