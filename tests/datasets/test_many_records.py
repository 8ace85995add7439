"""A hundred thousand records are opened and read in any order within the memory of a few."""

import json
import struct
import subprocess
import sys

import pytest
from encoded import encoded
from record_files import body, record

IDENTITIES, EACH = 2000, 50
PROGRAM = """
import json, random, resource, sys, time
import numpy, PIL.Image
import qface_toolkit.sources
from qface_toolkit.datasets import open_data

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before, started = peak(), time.perf_counter()
data = open_data(sys.argv[1])
opened, seconds = peak(), time.perf_counter() - started
order = list(range(len(data)))
random.Random(0).shuffle(order)
order = order[:int(sys.argv[2])]
labels = data.labels()
for index in order:
    example = data.example(index)
    assert example.label == labels[index]
print(json.dumps([len(data), data.identities, seconds, opened - before, peak() - before]))
"""


def write_many(path, ranges):
    """Write records of one image over and over, in the form of insightface, with ranges of identities or without."""
    count, image = IDENTITIES * EACH, encoded(0, "JPEG", (16, 16))
    heads = [record(body(image, [float(label), 0.0])) for label in range(IDENTITIES)]
    last = 1 + count + (IDENTITIES if ranges else 0)
    with path.open("wb") as file, path.with_suffix(".idx").open("w") as index:
        index.write(f"0\t{file.tell()}\n")
        file.write(record(body(labels=[float(1 + count), float(last)])))
        for number in range(count):
            index.write(f"{1 + number}\t{file.tell()}\n")
            file.write(heads[number // EACH])
        for person in range(last - 1 - count):
            index.write(f"{1 + count + person}\t{file.tell()}\n")
            file.write(record(body(labels=[1.0 + person * EACH, 1.0 + (person + 1) * EACH])))
    assert struct.unpack("<f", struct.pack("<f", last))[0] == last


@pytest.mark.slow
@pytest.mark.parametrize(("ranges", "reads"), [(True, IDENTITIES * EACH), (False, 5000)])
def test_many_records_are_read_in_little_memory(ranges, reads, tmp_path):
    write_many(tmp_path / "x.rec", ranges)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "x.rec"), str(reads)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    count, identities, seconds, opening, reading = json.loads(said)
    assert (count, identities) == (IDENTITIES * EACH, IDENTITIES)
    assert seconds < 30
    # In KiB: the index takes 16 bytes a record while it is read, and images none.
    assert opening < 64 << 10
    assert reading < 128 << 10 < 1 << 20
