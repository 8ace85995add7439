"""Pairs files: what the field's own writers make is read, and a stranger's file runs nothing and fills no memory."""

import io
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation.pairs import PairsFile, read_pairs_file
from qface_toolkit.untrusted import _machine, pickles

PIXELS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 4), st.just(3)))
ENCODED = st.binary(min_size=1, max_size=300)
CALLED = []


def canary(*arguments):
    CALLED.append(arguments)


class Attack:
    """Pickles to a call."""

    def __init__(self, target, *arguments):
        self.call = target, arguments

    def __reduce__(self):
        return self.call


def read(content, folder):
    path = folder / "pairs.bin"
    path.write_bytes(content)
    return read_pairs_file(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pairs")


def same_image(found, given):
    if isinstance(given, np.ndarray) and given.ndim > 1:
        return isinstance(found, np.ndarray) and np.array_equal(found, given)
    return found == bytes(given)


@given(st.lists(st.tuples(st.one_of(ENCODED, PIXELS), ENCODED, st.booleans()), min_size=1), st.integers(2, 5))
@settings(deadline=None)
def test_what_is_written_is_read(folder, pairs, protocol):
    images = [image for first, second, _ in pairs for image in (first, second)]
    found = read(pickle.dumps((images, [same for *_, same in pairs]), protocol=protocol), folder)
    assert all(same_image(found.images[row], given) for row, given in zip(found.first, images[::2], strict=True))
    assert all(same_image(found.images[row], given) for row, given in zip(found.second, images[1::2], strict=True))
    assert found.same.tolist() == [same for *_, same in pairs]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("read_only", [False, True])
def test_arrays_of_encoded_bytes_are_those_bytes(tmp_path, protocol, read_only):
    array = np.frombuffer(b"jpeg", np.uint8) if read_only else np.array([*b"jpeg"], np.uint8)
    assert read(pickle.dumps(([array, b"jpeg"], [True]), protocol=protocol), tmp_path).images == (b"jpeg",)


@pytest.mark.parametrize("protocol", [2, 5])
def test_an_array_in_column_order_keeps_its_places(tmp_path, protocol):
    array = np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    (found,) = read(pickle.dumps(([array, array], [True]), protocol=protocol), tmp_path).images
    assert np.array_equal(found, array)


def test_an_image_shown_twice_is_kept_once(tmp_path):
    found = read(pickle.dumps(([b"a", b"b", b"b", bytes([97])], [True, False])), tmp_path)
    assert found.images == (b"a", b"b")
    assert (found.first.tolist(), found.second.tolist()) == ([0, 1], [1, 0])
    assert found.pairs(2).folds == 2


def test_python_2_wrote_strings_and_text_flags(tmp_path):
    strings = b"U\x03\xff\xd8\x01" + b"T" + struct.pack("<i", 2) + b"\xff\xd8"
    assert read(b"\x80\x02](" + strings + b"e](I01\ne\x86.", tmp_path).images == (b"\xff\xd8\x01", b"\xff\xd8")


def jpegs(kind=bytes):
    return [kind(b"\xff\xd8\n'\\ " + bytes([number])) for number in range(4)]


def column(data):
    return np.frombuffer(data, np.uint8).reshape(-1, 1).copy()


def row(data):
    return np.frombuffer(data, np.uint8).reshape(1, -1)


CONTENTS = {
    "lists": (jpegs(), [True, False]),
    "list of lists": [jpegs(), [True, False]],
    "tuples": (tuple(jpegs()), (True, False)),
    "columns, as cv2.imencode returns them": (list(map(column, jpegs())), [True, False]),
    "rows": (list(map(row, jpegs())), [True, False]),
    "bytearrays": (jpegs(bytearray), [True, False]),
    "numpy bools": (jpegs(), [np.True_, np.False_]),
    "an array of bools": (jpegs(), np.array([True, False])),
    "a column of bools": (jpegs(), np.array([[True], [False]])),
    "an array of integers": (jpegs(), np.array([1, 0])),
    "an array of bytes": (jpegs(), np.array([1, 0], ">i4")),
    "an array of floats": (jpegs(), np.array([1.0, 0.0])),
    "integers": (jpegs(), [1, 0]),
    "floats": (jpegs(), [1.0, 0.0]),
    "numpy integers": (jpegs(), list(np.array([1, 0], np.uint8))),
    "arrays of one bool": (jpegs(), [np.array([True]), np.array([False])]),
    "an array of objects": (np.array(jpegs(), dtype=object), np.array([True, False], dtype=object)),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", CONTENTS)
def test_what_packing_scripts_write_is_read(tmp_path, name, protocol):
    found = read(pickle.dumps(CONTENTS[name], protocol=protocol), tmp_path)
    assert found.images == tuple(jpegs())
    assert found.same.tolist() == [True, False]


@pytest.mark.parametrize("protocol", range(6))
def test_pictures_in_one_array_are_its_rows(tmp_path, protocol):
    pictures = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)
    found = read(pickle.dumps((pictures, [True, False]), protocol=protocol), tmp_path)
    assert np.array_equal(np.stack(found.images), pictures)


PYTHON_2 = {
    0: b"((lp0\nS'\\xff\\xd8\\n\\''\np1\naS\"b'\"\np2\na(lp3\nI01\natp4\n.",
    1: b"(]q\x00(U\x04\xff\xd8\n'q\x01U\x02b'q\x02e]q\x03I01\natq\x04.",
    2: b"\x80\x02]q\x00(U\x04\xff\xd8\n'q\x01U\x02b'q\x02e]q\x03\x88a\x86q\x04.",
}


@pytest.mark.parametrize("protocol", PYTHON_2)
def test_what_python_2_wrote_is_read(tmp_path, protocol):
    found = read(PYTHON_2[protocol], tmp_path)
    assert (found.images, found.same.tolist()) == ((b"\xff\xd8\n'", b"b'"), [True])


@pytest.mark.parametrize(
    "flags", [[2], [None], ["1"], [0.5], [np.array([True, False])], np.array([3]), np.array(["a"])]
)
def test_flags_that_are_none_are_refused(tmp_path, flags):
    with pytest.raises(MeasurementError, match="no pairs file"):
        read(pickle.dumps(([b"a", b"b"], flags)), tmp_path)


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_refused_in_our_words(folder, content):
    with pytest.raises(MeasurementError, match="this is no pairs file|is empty|a web page|Git LFS"):
        read(content, folder)


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_a_damaged_file_is_read_or_refused_in_our_words(folder, data):
    images = [np.zeros((2, 2, 3), np.uint8), b"\xff\xd8 first", np.ones(4, np.uint8), b"\xff\xd8 second"]
    content = bytearray(pickle.dumps((images, [True, False]), protocol=data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        assert isinstance(read(bytes(content), folder), PairsFile)
    except MeasurementError as error:
        assert error.fix


TARGETS = [print, exec, eval, open, __import__, getattr, memoryview, complex, set, canary, np.array, np.load]


ARGUMENTS = st.lists(st.one_of(st.text(max_size=9), st.integers(), st.binary(max_size=9)), max_size=3)
PLACES = ["image", "flag", "whole", "beyond"]


@given(st.sampled_from(TARGETS), ARGUMENTS, st.integers(0, 5), st.sampled_from(PLACES))
@settings(deadline=None, max_examples=200)
def test_no_name_is_called(folder, target, arguments, protocol, place):
    attack = Attack(target, *arguments)
    whole = {
        "image": ([attack, b""], [True]),
        "flag": ([b"", b""], [attack]),
        "whole": attack,
        "beyond": ([b"", b"", attack, b""], [True, True]),
    }
    with pytest.raises(MeasurementError):
        read(pickle.dumps(whole[place], protocol=protocol), folder)
    assert CALLED == []


def test_the_canary_would_sing():
    pickle.loads(pickle.dumps(Attack(canary, 1)))
    assert CALLED.pop() == (1,)


@given(st.text("abcdeopnty_.", min_size=1, max_size=12), st.text("abcdeopnty_.", min_size=1, max_size=12))
@settings(deadline=None)
def test_no_name_is_even_looked_up(folder, module, name):
    with pytest.raises(MeasurementError, match="which no list of images needs"):
        read(b"\x80\x02c" + f"{module}\n{name}\n".encode() + b".", folder)


def test_a_name_with_an_escape_is_a_name(tmp_path):
    with pytest.raises(MeasurementError, match="which no list of images needs"):
        read(b"\x80\x02cos\n\\u0073ystem\n.", tmp_path)


NUMBERS = [np.zeros(2), np.zeros(2, np.int8), np.array([None]), np.array([b"x"]), np.zeros((1, 1, 1, 1), np.uint8)]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("array", NUMBERS, ids=lambda array: str(array.dtype) + str(array.ndim))
def test_arrays_of_anything_but_pixels_are_refused(tmp_path, array, protocol):
    with pytest.raises(MeasurementError):
        read(pickle.dumps(([array, b""], [True]), protocol=protocol), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        [],
        ([], []),
        ([b"a"], [True]),
        ([b"a", b"b"], [2]),
        ([b"a", "b"], [True]),
        ([b"a", b"b"], [None]),
        (b"ab", [True]),
        ([b"a", [b"b"]], [True]),
        ([b"a", b"b"], [True], []),
        {"a": 1},
        1.5,
    ],
    ids=repr,
)
def test_other_contents_are_refused(tmp_path, content):
    with pytest.raises(MeasurementError, match="no pairs file"):
        read(pickle.dumps(content), tmp_path)


REDUCED = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
DTYPE = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"


SHAPES = [b"J\xff\xff\xff\x7f", b"K\x00", b"J\xff\xff\xff\xff", b"K\x04K\x04", b"", b"]", b"I01\n"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_that_does_not_fit_the_bytes_is_refused(tmp_path, shape):
    state = b"(K\x01(" + shape + b"t" + DTYPE + b"I00\nU\x04jpegt"
    with pytest.raises(MeasurementError, match="array"):
        read(b"\x80\x02](" + REDUCED + state + b"bU\x01ae](I01\ne\x86.", tmp_path)


def test_the_shape_that_fits_is_not(tmp_path):
    state = b"(K\x01(K\x04t" + DTYPE + b"I00\nU\x04jpegt"
    assert read(b"\x80\x02](" + REDUCED + state + b"bU\x01ae](I01\ne\x86.", tmp_path).images == (b"jpeg", b"a")


def peak_bytes(content):
    stream = io.BytesIO(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError):
            pickles.read_plain_pickle(stream)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


PIECE = b"X" + struct.pack("<I", 1 << 16) + b"a" * (1 << 16)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40),
        b"B" + struct.pack("<I", (1 << 32) - 1),
        b"\x96" + struct.pack("<Q", 1 << 62),
        b"\x8d" + struct.pack("<Q", 1 << 33),
        b"\x8b" + struct.pack("<i", 1 << 30),
        b"c" + b"a" * 100_000,
        b"I" + b"9" * 100_000,
        b"(" * 1000 + b"t" * 1001,
        # The same text turned into bytes a thousand times.
        PIECE + b"q\x00" + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 1000,
    ],
    ids=["bytes8", "bytes", "bytearray", "text", "long", "name", "digits", "nesting", "copies"],
)
def test_a_small_file_takes_little_memory(content):
    assert peak_bytes(content) < 4 << 20


def test_bytes_made_of_text_are_made_once():
    text = b"X\x04\x00\x00\x00\xc3\xbf\xc3\xbfq\x00"
    encode = b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR"
    content = text + b"0(" + encode + encode + b"l."
    first, second = pickles.read_plain_pickle(io.BytesIO(content))
    assert first is second
    assert first == b"\xff\xff"


def test_a_file_of_many_steps_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(_machine, "MOST_STEPS", 100)
    with pytest.raises(MeasurementError, match="too many steps"):
        read(b"]" * 101 + b".", tmp_path)


def test_a_list_that_holds_itself_is_refused(tmp_path):
    images = [b"a"]
    images.append(images)
    with pytest.raises(MeasurementError, match="neither bytes nor an array"):
        read(pickle.dumps((images, [True])), tmp_path)


@pytest.mark.parametrize("name", ["missing.bin", "."])
def test_a_file_that_is_not_there_is_said(tmp_path, name):
    with pytest.raises(MeasurementError, match="no such|a folder"):
        read_pairs_file(tmp_path / name)


def test_a_file_of_absurd_size_is_refused(tmp_path):
    path = tmp_path / "pairs.bin"
    with path.open("wb") as stream:
        stream.truncate(2 << 30)
    with pytest.raises(MeasurementError, match="larger than"):
        read_pairs_file(path)
