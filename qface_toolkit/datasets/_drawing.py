"""Drawing a set into a file of pixels, by several processes: one takes 25 ms a picture, longer than learning from it.

The processes are new ones and not forks, since this one may hold torch's threads; and they run a program of their own,
so that a caller's script needs no guard against being imported again.
"""

import contextlib
import io
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from qface_toolkit.errors import CalibrationError
from qface_toolkit.framing import CROP_SIZE
from qface_toolkit.sources import ImageSet, NamedSet
from qface_toolkit.untrusted.reading import printable
from qface_toolkit.untrusted.writing import UNFINISHED, disk_errors

CROP_BYTES = CROP_SIZE * CROP_SIZE * 3
Progress = Callable[[int, int], None]

_MAIN = "from qface_toolkit.datasets._drawing import main; main()"
PROGRAM = f"import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); {_MAIN}"


def head(count: int) -> bytes:
    """Return what a .npy file of so many crops begins with."""
    stream = io.BytesIO()
    shape = count, CROP_SIZE, CROP_SIZE, 3
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def draw_here(images: ImageSet, path: Path, progress: Progress) -> None:
    """Draw all images of a set into a .npy file, uint8 [N, 112, 112, 3], one by one in this process.

    Raises:
        ArtifactError: if the disk refuses.
        CalibrationError: if the images are no aligned crops.
    """
    count = len(images)
    with _new_file(path, count) as file:
        for index in range(count):
            _put(file.fileno(), images, index)
            progress(index + 1, count)


def draw_apart(named: NamedSet, path: Path, processes: int, progress: Progress) -> None:
    """Draw all images of a set that needs no model into a .npy file, in so many processes; see `draw_here`.

    Raises:
        ArtifactError: if the disk refuses.
        CalibrationError: if a process fails.
    """
    with _new_file(path, named.count) as file, tempfile.TemporaryFile() as said, contextlib.ExitStack() as ending:
        told, telling = os.pipe()
        read = ending.enter_context(os.fdopen(told, "rb", buffering=0))
        with os.fdopen(telling, "wb") as write:
            children = [
                ending.enter_context(_child(named, file.name, range(place, named.count, processes), write, said))
                for place in range(processes)
            ]
        done = 0
        while some := read.read(4096):
            done += len(some)
            progress(done, named.count)
            if any(child.poll() for child in children):
                break
        if any(child.poll() or (child.wait() if done == named.count else 1) for child in children):
            raise _failed(said)


@contextlib.contextmanager
def _new_file(path: Path, count: int) -> Iterator[BinaryIO]:
    """Give a file with room for the crops, which becomes `path` if the block succeeds and is removed if it fails."""
    unfinished = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("xb") as file:
                start = head(count)
                # The disk is asked for all of it now, and not after an hour's drawing.
                os.posix_fallocate(file.fileno(), 0, len(start) + count * CROP_BYTES)
                os.pwrite(file.fileno(), start, 0)
                yield file
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def _child(
    named: NamedSet, file: str, part: range, telling: BinaryIO, said: BinaryIO
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process that draws a part, and end it with the block, done or not."""
    # The child finds the package where this process found it, and looks for nothing in the folder it stands in.
    places = json.dumps([place for place in sys.path if place])
    asked = json.dumps([named.model_dump(mode="json"), str(Path(file).resolve()), part.start, part.step])
    command = [sys.executable, "-I", "-c", PROGRAM, places, asked]
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=telling, stderr=said)
    except OSError as error:
        what = f"a process that draws cannot be started: {error.strerror or error}"
        raise CalibrationError(what, fix="ask for one thread") from error
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _failed(said: BinaryIO) -> CalibrationError:
    said.seek(0)
    last = said.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
    what = f"a process that draws has failed: {printable(last, 300) or 'it was ended from outside'}"
    return CalibrationError(what, fix="try again with one thread, or with more memory")


def _put(descriptor: int, images: ImageSet, index: int) -> None:
    crop = images.crop(index)
    if crop.shape != (CROP_SIZE, CROP_SIZE, 3):
        what = f"the set gives pictures of {crop.shape[1]}x{crop.shape[0]} pixels, and training takes aligned crops"
        raise CalibrationError(what, fix=f"take a set of {CROP_SIZE}x{CROP_SIZE} crops, such as drawings")
    left = crop.tobytes()
    place = len(head(len(images))) + index * CROP_BYTES
    while left:
        written = os.pwrite(descriptor, left, place)
        left, place = left[written:], place + written


def main() -> None:
    """Draw the part that is asked for into the file, and tell each picture by a byte on standard output."""
    values, file, start, step = json.loads(sys.argv[1])
    images = NamedSet.model_validate(values).open()
    with Path(file).open("r+b", buffering=0) as opened:
        for index in range(start, len(images), step):
            _put(opened.fileno(), images, index)
            os.write(1, b".")
