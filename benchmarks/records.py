"""What reading a large RecordIO in any order costs: seconds beside decoding alone, and memory.

    python benchmarks/records.py --save benchmarks/results/records.json

A file of 100,000 crops is written to a temporary folder, opened and read in a shuffled order; every image is decoded.
Decoding alone is of copies of the same bytes in memory. Both take turns, on one thread, and their ratio is the median
of turns; memory is what this process holds at its peak beyond what it held before the file was opened.
"""

import argparse
import io
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from qface_toolkit.datasets import FaceData, open_data
from qface_toolkit.datasets._pixels import FORMATS
from qface_toolkit.environment import record_environment
from qface_toolkit.sources import find_set
from qface_toolkit.untrusted.images import decode

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from record_files import insightface, write_records  # noqa: E402 - the writer that the tests have

PEOPLE, IMAGES_EACH = 10_000, 10
DRAWN = 64
TURN = 1_000
"""Images a turn: few enough that both meet the same moods of the machine."""


def peak_bytes() -> int:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def encoded() -> list[bytes]:
    """Return some drawings as JPEG."""
    images, found = find_set("drawings").open(count=DRAWN), []
    for index in range(DRAWN):
        buffer = io.BytesIO()
        Image.fromarray(images.crop(index)).save(buffer, "JPEG", quality=95)
        found.append(buffer.getvalue())
    return found


def write(file: Path, images: list[bytes]) -> None:
    """Write the file of all people."""
    people = [[images[(label + each) % DRAWN] for each in range(IMAGES_EACH)] for label in range(PEOPLE)]
    write_records(file, insightface(people))


def reading(data: FaceData, order: np.ndarray) -> float:  # type: ignore[type-arg]
    """Return the seconds of reading and decoding some images."""
    started = time.perf_counter()
    for index in order:
        data.example(int(index))
    return time.perf_counter() - started


def decoding(images: list[bytes]) -> float:
    """Return the seconds of decoding images that lie in memory."""
    started = time.perf_counter()
    for image in images:
        decode(image, FORMATS, "an image")
    return time.perf_counter() - started


def main() -> None:
    """Write the file, read it, print what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", type=Path)
    wanted = parser.parse_args()
    images = encoded()
    count = PEOPLE * IMAGES_EACH
    with tempfile.TemporaryDirectory() as name:
        # In a process of its own, whose memory is not counted.
        writer = multiprocessing.get_context("spawn").Process(target=write, args=(Path(name) / "train.rec", images))
        writer.start()
        writer.join()
        before = peak_bytes()
        started = time.perf_counter()
        data = open_data(str(Path(name) / "train.rec"))
        opening_s = time.perf_counter() - started
        order = np.random.default_rng(0).permutation(count)
        turns: list[tuple[float, float]] = []
        for at in range(0, count, TURN):
            part = order[at : at + TURN]
            # The images of identity i are those from i on: the same bytes, each at a place of its own.
            places = [int(index) // IMAGES_EACH + int(index) % IMAGES_EACH for index in part]
            own = [bytes(bytearray(images[place % DRAWN])) for place in places]
            turns.append((reading(data, part), decoding(own)))
        held = peak_bytes() - before
    found: dict[str, Any] = {
        "images": count,
        "opening_s": opening_s,
        "reading_against_decoding": median(one / other for one, other in turns),
        "held_bytes": held,
        "peak_bytes": before + held,
    }
    print(json.dumps(found, indent=1))
    if wanted.save:
        environment = record_environment(0, 1).model_dump(mode="json")
        wanted.save.write_text(json.dumps({"environment": environment, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
