"""webdataset's tar shards: what its own writer writes is read, and what could run or fill memory is refused."""

import io
import tarfile

import pytest
from encoded import encoded, shown

from qface_toolkit.datasets import Opening, open_data
from qface_toolkit.errors import CalibrationError


def add(archive, name, data=b"", **facts):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in facts.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(data))


def write_shard(path, members, form=tarfile.USTAR_FORMAT):
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in members:
            add(archive, name, data)
    return path


def labelled(numbers, labels, start=0):
    rows = enumerate(zip(numbers, labels, strict=True), start)
    return [
        one
        for key, (number, label) in rows
        for one in ((f"d.x/{key:04d}.cls", str(label).encode()), (f"d.x/{key:04d}.png", encoded(number)))
    ]


@pytest.fixture
def shards(tmp_path):
    write_shard(tmp_path / "t-08.tar", labelled([0, 1], [0, 1]))
    write_shard(tmp_path / "t-09.tar", labelled([2], [1]))
    write_shard(tmp_path / "t-10.tar", labelled([3, 4], [2, 0]))
    return tmp_path


def refused(path, words):
    with pytest.raises(CalibrationError, match=words) as caught:
        open_data(str(path))
    assert caught.value.where
    return caught.value


def test_a_folder_of_shards_is_told_its_pattern(shards):
    assert refused(shards, "a folder of tar shards").fix == f"name them: --data '{shards}/*.tar'"
    assert len(open_data(f"{shards}/*.tar")) == 5


def test_what_webdataset_writes_is_read(tmp_path):
    from webdataset import TarWriter

    for shard in range(2):
        with TarWriter(str(tmp_path / f"train-{shard:03d}.tar")) as writer:
            for key in range(3):
                image = encoded(shard * 3 + key, "PNG")
                writer.write({"__key__": f"a/{key}", "png": image, "cls": key, "json": {"label": 7, "age": 3}})
    data = open_data(str(tmp_path / "train-{000..001}.tar"))
    assert (data.kind, data.name, data.identities) == ("shards", "train-{000..001}.tar", 3)
    assert shown(data) == ([0, 1, 2, 3, 4, 5], [0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("pattern", ["t-{08..10}.tar", "t-*.tar", "t-{0..1}[0-9].tar", "[s-u]-??.tar"])
def test_ranges_and_globs_find_the_same(pattern, shards):
    assert shown(open_data(str(shards / pattern))) == ([0, 1, 2, 3, 4], [0, 1, 1, 2, 0])


def test_a_single_shard_is_enough_whatever_its_name(shards):
    (shards / "t-09.tar").rename(shards / "odd[1]{2}.tar")
    write_shard(shards / "odd[1]{2}.tar", labelled([3, 2], [1, 0]))
    assert shown(open_data(str(shards / "odd[1]{2}.tar"))) == ([3, 2], [1, 0])


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("t-{08..11}.tar", "no such tar shard"),
        ("u-*.tar", "no shard of this name"),
        ("t-{09..08}.tar", "ends before it begins"),
        ("t-{0..99999999}.tar", "more than 100000 shards"),
        ("{0..999}-{0..999}.tar", "more than 100000 shards"),
        ("t-08.tar.gz", "compressed shards"),
    ],
)
def test_patterns_that_name_nothing_are_refused(pattern, words, shards):
    refused(shards / pattern, words)


@pytest.mark.parametrize(
    "source",
    [
        "pipe:touch ran; cat t.tar",
        "pipe:touch ran",
        "http://x.org/t.tar",
        "s3://b/{0..9}.tar",
        "file:t.tar",
        "gs://b/k",
    ],
)
def test_commands_and_addresses_are_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(source, "a command or an address is not followed").where == source
    assert not list(tmp_path.iterdir())


def test_labels_in_json_count_where_there_is_no_cls(tmp_path):
    images = [(f"{key}.png", encoded(key)) for key in range(3)]
    facts = [("0.json", b'{"label": 1}'), ("1.json", b'{"label": 0}'), ("2.json", b'{"label": 1}')]
    members = sorted([*images, *facts])
    assert shown(open_data(str(write_shard(tmp_path / "x.tar", members)))) == ([0, 1, 2], [1, 0, 1])


def test_without_labels_there_are_no_identities(tmp_path):
    others = [("README.txt", b"hello"), ("0.json", b'{"age": 5}'), ("__meta__/1.png", b"x"), ("._0.png", b"mac")]
    members = [*others[1:2], ("0.png", encoded(3)), ("1.b.c", b"x"), ("1.PNG", encoded(1)), others[0], *others[2:]]
    data = open_data(str(write_shard(tmp_path / "x.tar", members)))
    assert (data.identities, data.labels()) == (0, None)
    assert shown(data) == ([3, 1], [-1, -1])


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read(form, tmp_path):
    keys = ["\u00e4" * 90, "b" * 200]
    members = [(f"{key}.{kind}", data) for key in keys for kind, data in (("cls", b" 0\n"), ("png", encoded(1)))]
    members[2] = (members[2][0], b"1")
    assert shown(open_data(str(write_shard(tmp_path / "x.tar", members, form)))) == ([1, 1], [0, 1])


@pytest.mark.parametrize("suffix", ["pyd", "pickle", "pkl", "PTH", "pt", "emb.pkl", "pkl.gz"])
def test_pickled_members_are_refused(suffix, tmp_path):
    path = write_shard(tmp_path / "x.tar", [("a.png", encoded(0)), (f"a.{suffix}", b"cos\nsystem\n")])
    assert refused(path, "is read by pickle").where == f"{path}, member a.{suffix}"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"Z"])
def test_links_and_devices_are_refused(kind, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add(archive, "d", type=tarfile.DIRTYPE)
        add(archive, "a.png", encoded(0))
        add(archive, "../b.png", type=kind, linkname="/etc/passwd")
    assert refused(tmp_path / "x.tar", "a link, a device or another thing").where.endswith("../b.png")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("a.cls", b"x"), ("a.png", b"x")], "no number of an identity: 'x'"),
        ([("a.cls", b"-1"), ("a.png", b"x")], "no number of an identity: '-1'"),
        ([("a.cls", b"9" * 10), ("a.png", b"x")], "no number of an identity"),
        ([("a.cls", b"0" * 65), ("a.png", b"x")], "65 bytes, more than a label needs"),
        ([("a.json", b" " * 70000), ("a.png", b"x")], "70000 bytes, more than a label needs"),
        ([("a.json", b"{"), ("a.png", b"x")], "is no JSON"),
        ([("a.json", b"[" * 60000), ("a.png", b"x")], "is no JSON"),
        ([("a.json", b'{"label": true}'), ("a.png", b"x")], "a label that is no number"),
        ([("a.json", b'{"label": 1.5}'), ("a.png", b"x")], "a label that is no number"),
        ([("a.json", b'{"label": 1e999}'), ("a.png", b"x")], "a label that is no number"),
        ([("a.cls", b"0"), ("b.png", b"x")], "a label without an image"),
        ([("a.png", b"x"), ("a.jpg", b"x")], "a second image"),
        ([("a.png", b"x"), ("a.PNG", b"x")], "is there twice"),
        ([("a.png", b"")], "0 bytes, which no crop has"),
        ([("a.txt", b"x")], "hold no image"),
        ([], "hold no image"),
        (labelled([0, 1, 2], [0, 1, 3]), "labels with a hole: identity 2 has no image"),
        (labelled([0, 1, 2], [0, 0, 0]), "one identity only"),
        ([*labelled([0], [0]), ("e.png", encoded(0))], "the sample 'e' has no label, and those before it have one"),
        ([("e.png", encoded(0)), *labelled([0], [0])], "has a label, and those before it have none"),
    ],
)
def test_faults_of_samples_are_named(members, words, tmp_path):
    refused(write_shard(tmp_path / "x.tar", members), words)


def test_a_broken_image_is_named_and_others_are_read(tmp_path):
    members = [("d/a.cls", b"0"), ("d/a.png", b"no image"), *labelled([2], [1])]
    path = write_shard(tmp_path / "x.tar", members)
    data = open_data(str(path))
    with pytest.raises(CalibrationError, match="cannot be decoded") as caught:
        data.example(0)
    assert caught.value.where.startswith(f"{path}, member d/a.png (byte ")
    assert data.example(1).label == 1


def test_a_damaged_or_short_shard_is_not_taken_for_its_beginning(shards):
    path = shards / "t-08.tar"
    content = path.read_bytes()
    with tarfile.open(path) as archive:
        places = [member.offset for member in archive]
    path.write_bytes(content[: places[2]])
    refused(path, "cut short: it has no end mark")
    path.write_bytes(content[: places[3] + 600])
    refused(path, "more than the file has|unexpected end")
    path.write_bytes(content[: places[2]] + b"X" + content[places[2] + 1 :])
    refused(path, f"header at byte {places[2]} of the shard is damaged")
    path.write_bytes(b"X" + content[1:])
    refused(path, "no uncompressed tar file")


def test_a_compressed_shard_by_another_name_is_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w:gz") as archive:
        add(archive, "a.png", encoded(0))
    assert "without compression" in refused(tmp_path / "x.tar", "no uncompressed tar").fix


def header(name, size, kind=b"0"):
    """Return a header that claims a size, below 0 too, which tarfile writes as GNU does."""
    member = tarfile.TarInfo(name)
    member.type = kind
    field = (size % (1 << 88)).to_bytes(11, "big")
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = (b"\xff" if size < 0 else b"\x80") + field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


PAX = b"".join(b"6 %02x=\n" % key for key in range(128))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header("a.png", -512), "announces -512 bytes"),
        (header("a.png", -1024), "announces -1024 bytes|no uncompressed"),
        (header("a.png", 1 << 60), "announces 1152921504606846976 bytes"),
        (header("x", 1 << 40, b"L"), "a header is larger than any"),
        (header("x", -512, b"L"), "a header is larger than any"),
        (header("x", 1 << 40, b"x"), "a header is larger than any"),
        (header("x", 512, b"L") * 3000, "a header is larger than any|no uncompressed"),
        (header("x", 0, b"x") * 3000, "a header is larger than any|no uncompressed"),
        (header("a.png", 0, b"S")[:-30] + b"\1" * 30 + b"\1" * 51200, "no uncompressed"),
        (header("x", 512, b"x") + PAX[:512] + header("a.png", 0), "a header says more than any"),
        (header("x", 512, b"g") + PAX[:512] + header("a.png", 0), "a header says more than any"),
    ],
)
def test_headers_that_claim_too_much_set_no_memory_aside(content, words, tmp_path):
    (tmp_path / "x.tar").write_bytes(content + bytes(10240))
    refused(tmp_path / "x.tar", words)


def test_a_sparse_member_is_refused(tmp_path):
    block = bytearray(header("a.png", 0, b"S"))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    (tmp_path / "x.tar").write_bytes(bytes(block) + bytes(10240))
    refused(tmp_path / "x.tar", "a link, a device or another thing")


def test_a_shard_that_changes_later_is_noticed(shards):
    data = open_data(str(shards / "t-*.tar"))
    data.example(0)
    write_shard(shards / "t-09.tar", labelled([2] * 9, [1] * 9))
    with pytest.raises(CalibrationError, match="has changed since it was indexed"):
        data.example(2)
    assert data.example(3).label == 2


def test_opening_tells_how_far_it_is(shards):
    told = []
    open_data(str(shards / "t-*.tar"), Opening(progress=lambda done, total: told.append((done, total))))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_fingerprints_differ_where_shards_do(shards):
    both = open_data(str(shards / "t-{08..09}.tar")).fingerprint()
    assert both == open_data(str(shards / "t-0*.tar")).fingerprint()
    assert both != open_data(str(shards / "t-08.tar")).fingerprint()
    write_shard(shards / "t-09.tar", labelled([2], [0]))
    assert both != open_data(str(shards / "t-0*.tar")).fingerprint()
