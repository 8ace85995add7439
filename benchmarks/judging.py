"""Time `qface evaluate RESULT --faces PEOPLE` as a whole process, on drawn people, with all embeddings in the cache.

    python benchmarks/judging.py demo-out --people 400 --rounds 5
    git worktree add ../before COMMIT && python benchmarks/judging.py demo-out --people 400 --beside ../before

With `--beside` the toolkit of another checkout takes turns with this one, each with a cache of its own.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from qface_toolkit.evaluation.synthetic import synthetic_people

EACH = 10
"""Images of each person."""


def draw(folder: Path, people: int) -> None:
    """Write a folder of drawn people."""
    drawn = synthetic_people(people, EACH)
    for image in range(people * EACH):
        file = folder / f"person-{image // EACH:04}" / f"{image % EACH}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.images.crop(image)).save(file, compress_level=1)


def seconds(checkout: Path, result: Path, faces: Path, scratch: Path) -> float:
    """Return how long one evaluation takes by the toolkit of a checkout."""
    command = [sys.executable, "-m", "qface_toolkit", "evaluate", str(result), "--faces", str(faces), "--json"]
    given = [*command, "--per-identity", str(EACH), "--cache", str(scratch / checkout.name)]
    start = time.perf_counter()
    own = os.environ | {"PYTHONPATH": str(checkout)}
    subprocess.run(given, check=True, capture_output=True, cwd=scratch, env=own)
    return time.perf_counter() - start


def main() -> None:
    """Draw people, fill the caches, and take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("--people", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", type=Path, help="another checkout")
    given = parser.parse_args()
    checkouts = [one.resolve() for one in (Path(__file__).parents[1], given.beside) if one is not None]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        draw(scratch / "people", given.people)
        turns = [
            [seconds(one, given.result.resolve(), scratch / "people", scratch) for one in checkouts]
            for _ in range(given.rounds + 1)
        ][1:]  # the first fills the caches
    for checkout, found in zip(checkouts, zip(*turns, strict=True), strict=True):
        print(
            f"{checkout.name}: {statistics.median(found):.1f} s (of {len(found)}: {min(found):.1f} to {max(found):.1f})"
        )
    if len(checkouts) == 2:
        print(f"median of the ratios of a turn: {statistics.median(here / there for here, there in turns):.2f}x")


if __name__ == "__main__":
    main()
