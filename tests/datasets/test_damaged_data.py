"""Files with bytes changed, cut out or put in are refused in words or read: no other error ever comes out of them."""

import contextlib
import tarfile

import pytest
from encoded import encoded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_files import MAGIC, body, insightface, write_records
from test_shards import labelled, write_shard

from qface_toolkit.datasets import open_data
from qface_toolkit.errors import QFaceError

SMALL = [[encoded(0, "JPEG", (8, 8)), encoded(1, "JPEG", (8, 8))], [encoded(2, "JPEG", (8, 8))]]

# Where to change, as a share of the file, what to put there, and how many bytes of the file it takes the place of.
CHANGES = st.lists(
    st.tuples(
        st.floats(0, 1), st.binary(max_size=12) | st.sampled_from([MAGIC, b"\xff" * 4, b"9"]), st.integers(0, 600)
    ),
    min_size=1,
    max_size=4,
)
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def changed(content, changes):
    for share, data, taken in changes:
        place = int(share * len(content))
        content = content[:place] + data + content[place + min(taken, len(data) + taken % 7) :]
    return content


def read_all(source):
    """Open data and read every image, letting errors in words pass."""
    with contextlib.suppress(QFaceError):
        data = open_data(str(source))
        data.fingerprint()
        for index in range(len(data)):
            with contextlib.suppress(QFaceError):
                assert data.example(index).crop.shape == (112, 112, 3)


@pytest.fixture(params=["insightface", "images alone"])
def rec(request, tmp_path):
    alone = [body(SMALL[0][0], 0.0), body(SMALL[1][0], [1.0, 3.0]), body(MAGIC * 3, 2.0)]
    return write_records(tmp_path / "x.rec", insightface(SMALL) if request.param == "insightface" else alone)


@given(changes=CHANGES)
@MANY
def test_changed_records(rec, changes):
    content = rec.read_bytes()
    try:
        rec.write_bytes(changed(content, changes))
        read_all(rec)
    finally:
        rec.write_bytes(content)


@given(changes=CHANGES)
@MANY
def test_changed_indexes(rec, changes):
    index = rec.with_suffix(".idx")
    content = index.read_bytes()
    try:
        index.write_bytes(changed(content, changes))
        read_all(rec)
    finally:
        index.write_bytes(content)


@given(content=st.binary(max_size=100))
@MANY
def test_indexes_of_any_bytes(rec, content):
    rec.with_suffix(".idx").write_bytes(content)
    read_all(rec)


@given(content=st.text("0123456789,\n\r \t+-.", max_size=30).map(str.encode) | st.binary(max_size=30))
@MANY
def test_properties_of_any_bytes(rec, content):
    rec.with_name("property").write_bytes(content)
    read_all(rec)


@pytest.fixture(params=[tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def shard(request, tmp_path):
    image = encoded(0, "JPEG", (8, 8))
    long = [(f"{'d' * 120}.json", b'{"label": 2}'), (f"{'d' * 120}.jpg", image)]
    members = [("a.cls", b"0"), ("a.jpg", image), ("b.cls", b"1"), ("b.jpg", image)]
    return write_shard(
        tmp_path / "x.tar", members + (long if request.param != tarfile.USTAR_FORMAT else []), request.param
    )


@given(changes=CHANGES)
@MANY
def test_changed_shards(shard, changes):
    content = shard.read_bytes()
    try:
        shard.write_bytes(changed(content[:8192], changes))
        read_all(shard)
    finally:
        shard.write_bytes(content)


def mended(content):
    """Return a shard whose header checksums are right again, so that what they guard is looked at."""
    blocks = [bytearray(content[at : at + 512].ljust(512, b"\0")) for at in range(0, len(content), 512)]
    for block in blocks:
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
    return b"".join(blocks)


@given(changes=st.lists(st.tuples(st.integers(0, 13), st.integers(0, 511), st.binary(min_size=1, max_size=12))))
@MANY
def test_changed_headers(shard, changes):
    content = shard.read_bytes()
    blocks = bytearray(content)
    for block, place, data in changes:
        start = block * 512 + place
        blocks[start : start + len(data)] = data
    try:
        shard.write_bytes(mended(bytes(blocks)))
        read_all(shard)
    finally:
        shard.write_bytes(content)


@given(text=st.binary(max_size=30) | st.sampled_from([b'{"label": %d}' % (1 << at) for at in (0, 31, 63, 4000)]))
@MANY
def test_labels_of_any_bytes(text, tmp_path):
    image = encoded(0, "JPEG", (8, 8))
    for name in ("a.cls", "a.json"):
        read_all(write_shard(tmp_path / "x.tar", [(name, text), ("a.jpg", image)]))


@given(pattern=st.text("{}0129.*?[]-/a", max_size=12))
@MANY
def test_patterns_of_any_text(pattern, tmp_path):
    read_all(f"{tmp_path}/{pattern}.tar")


def test_what_was_not_changed_is_read(rec, tmp_path):
    data = open_data(str(write_shard(tmp_path / "x.tar", labelled([0, 1], [0, 1]))))
    assert [data.example(index).label for index in range(2)] == [0, 1]
