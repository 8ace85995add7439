"""Time and memory of comparing every two images, on random embeddings around the centres of identities.

    python benchmarks/every_pair.py --images 50000 --size 512 --people 5000

Prints seconds and the most memory that the process held, numpy and the embeddings themselves included.
"""

import argparse
import os
import time

import numpy as np
import numpy.typing as npt

from qface_toolkit.scoring.separation import Separation, measure_separation
from qface_toolkit.untrusted.limits import peak_memory_bytes


def embeddings(wanted: argparse.Namespace) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Return embeddings [images, size] and whose they are; the first person has the wanted share of them."""
    rng = np.random.default_rng(wanted.seed)
    owners = rng.integers(1, wanted.people, wanted.images)
    owners[: int(wanted.largest * wanted.images)] = 0
    centres = rng.standard_normal((wanted.people, wanted.size), dtype=np.float32)
    found = rng.standard_normal((wanted.images, wanted.size), dtype=np.float32)
    for at in range(0, wanted.images, 4096):
        found[at : at + 4096] *= 2.5
        found[at : at + 4096] += centres[owners[at : at + 4096]]
    return found, owners.astype(np.intp)


def show(found: Separation) -> None:
    """Print the figures, so that two runs can be compared."""
    for name, rates in (("every pair", found.rates), ("balanced", found.balanced)):
        tar = ", ".join(f"{key} {rate:.6f} at {rates.thresholds[key]:.6f}" for key, rate in rates.tar.items())
        print(f"{name}: EER {rates.eer:.8f}; TAR {tar}; not supported {', '.join(rates.unsupported) or 'none'}")
    print(f"rank 1: {found.rank1:.6f} of {found.probes}")


def main() -> None:
    """Measure one set of random embeddings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5373)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--people", type=int, default=2000)
    parser.add_argument("--largest", type=float, default=0.1, help="share of the images that are of one person")
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    given, owners = embeddings(wanted)
    before = peak_memory_bytes()
    start = time.perf_counter()
    found = measure_separation(given, owners)
    seconds = time.perf_counter() - start
    show(found)
    print(
        f"{found.genuine + found.impostors:,} pairs of {wanted.images} x {wanted.size}: {seconds:.1f} s, "
        f"{peak_memory_bytes() / 2**20:.0f} MiB at most ({before / 2**20:.0f} before), load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
