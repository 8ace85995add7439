"""Embedding: every image once, in order, in the background, and nothing of a model is believed unseen."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import SPEC, FakeImages, FakeModel
from hypothesis import given, settings
from hypothesis import strategies as st

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation import _cache, embed_images, stream_embeddings
from qface_toolkit.evaluation._cache import PIECE


def expected(count, flip, first=0):
    crops = np.stack([FakeImages(count, first=first).crop(index) for index in range(count)])
    rows = FakeModel()(SPEC.preprocess(crops))
    return rows + FakeModel()(SPEC.preprocess(crops[:, :, ::-1])) if flip else rows


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.booleans())
@settings(deadline=None, max_examples=25)
def test_every_image_is_embedded_once_and_in_order(count, batch, threads, flip):
    images, done = FakeImages(count), []
    model = FakeModel()
    rows = embed_images(
        model.opened(), images, flip=flip, batch=batch, threads=threads, progress=lambda *at: done.append(at)
    )
    assert np.array_equal(rows, expected(count, flip))
    assert sorted(images.decoded) == list(range(count))
    assert (max(model.calls) <= batch, sum(model.calls)) == (True, count * (2 if flip else 1))
    assert [part[0] for part in done] == sorted({part[0] for part in done})
    assert done[-1] == (count, count)


def test_the_mirrored_embedding_is_added_and_not_averaged():
    plain, flipped = (embed_images(FakeModel().opened(), FakeImages(3), flip=flip) for flip in (False, True))
    assert np.abs(flipped / plain - 2).max() < 0.1
    assert np.abs(flipped / plain - 2).max() > 1e-3


def test_decoding_happens_in_the_background_and_not_far_ahead():
    images = FakeImages(100)
    parts = stream_embeddings(FakeModel().opened(), images, batch=4, threads=2)
    assert next(parts)[0] == 0
    parts.close()
    assert len(images.decoded) <= 16 * 5
    assert all(name.startswith("decode") for name in images.threads)


def test_a_prepared_input_is_what_the_model_gets():
    seen = []
    model = FakeModel().opened(run=lambda inputs: seen.append(inputs) or np.ones((len(inputs), 2), np.float32))
    prepared = FakeModel().opened(run=model.run, prepare=SPEC.middle)
    embed_images(prepared, FakeImages(2), flip=False)
    assert seen[0].dtype == np.uint8
    assert seen[0].shape == (2, 112, 96, 3)


def test_an_image_that_cannot_be_read_ends_it_in_its_own_words():
    with pytest.raises(MeasurementError, match="cannot be decoded") as raised:
        embed_images(FakeModel().opened(), FakeImages(30, broken=17), batch=4, threads=2)
    assert raised.value.where == "image 17 of fake.bin"


BAD = {
    "rank 1": (lambda rows, _: rows[:, 0], "returns float32"),
    "rank 4": (lambda rows, _: rows[:, :, None, None], "returns float32"),
    "too few rows": (lambda rows, _: rows[1:], "for 4 images"),
    "no width": (lambda rows, _: rows[:, :0], "returns float32"),
    "whole numbers": (lambda rows, _: rows.astype(np.int8), "returns int8"),
    "a list": (lambda rows, _: [rows, rows], "returns float32"),
    "another width": (lambda rows, call: rows[:, : 4 - call // 3], "of 3 numbers after embeddings of 4"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_model_that_returns_something_else_is_refused(kind):
    change, message = BAD[kind]
    with pytest.raises(MeasurementError, match=message) as raised:
        embed_images(FakeModel(change).opened(), FakeImages(8), batch=4)
    assert "fake.onnx" in raised.value.where
    assert raised.value.fix


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_embedding_that_is_not_finite_names_the_image(value):
    def spoil(rows, call):
        rows[1, 2] = value if call == 3 else rows[1, 2]
        return rows

    with pytest.raises(MeasurementError, match="not finite") as raised:
        embed_images(FakeModel(spoil).opened(), FakeImages(12), batch=4, flip=False)
    assert raised.value.where == "image 9 of fake.bin, model fake.onnx"


def test_a_sum_that_overflows_is_not_finite_either():
    huge = FakeModel(lambda rows, _: np.full_like(rows, 3e38)).opened()
    with pytest.raises(MeasurementError, match="not finite"):
        embed_images(huge, FakeImages(2))


def test_half_precision_is_widened():
    rows = embed_images(FakeModel(lambda rows, _: rows.astype(np.float16)).opened(), FakeImages(2), flip=False)
    assert rows.dtype == np.float32


def test_no_images_is_an_error():
    with pytest.raises(MeasurementError, match="no images"):
        embed_images(FakeModel().opened(), FakeImages(0))


def calls_with(cache, images, **facts):
    flip = facts.pop("flip", True)
    model = FakeModel()
    rows = embed_images(model.opened(**facts), images, cache=cache, batch=8, flip=flip)
    return rows, sum(model.calls)


def test_what_was_computed_before_is_not_computed_again(tmp_path):
    first, computed = calls_with(tmp_path, FakeImages(20))
    again, recomputed = calls_with(tmp_path, FakeImages(20))
    assert (computed, recomputed) == (40, 0)
    assert np.array_equal(first, again)
    assert np.array_equal(first, expected(20, flip=True))


def test_any_subset_and_mixture_is_found_by_image(tmp_path):
    calls_with(tmp_path, FakeImages(20))
    rows, computed = calls_with(tmp_path, FakeImages(20, first=13))
    assert computed == 2 * 13
    assert np.array_equal(rows, expected(20, flip=True, first=13))


@pytest.mark.parametrize(
    "facts",
    [{"sha256": "cd"}, {"runtime": "fake 2"}, {"flip": False}, {"spec": replace(SPEC, std=(1, 1, 1))}],
    ids=lambda facts: next(iter(facts)),
)
def test_another_model_runtime_preprocessing_or_flip_has_rows_of_its_own(tmp_path, facts):
    calls_with(tmp_path, FakeImages(4))
    assert calls_with(tmp_path, FakeImages(4), **facts)[1] == (4 if "flip" in facts else 8)


def test_another_processor_has_rows_of_its_own(tmp_path, monkeypatch):
    calls_with(tmp_path, FakeImages(4))
    monkeypatch.setattr(_cache, "read_cpu", lambda: ("another", ("avx2",)))
    assert calls_with(tmp_path, FakeImages(4))[1] == 8


def test_what_the_caller_does_to_the_rows_does_not_reach_the_cache(tmp_path):
    for _, rows in stream_embeddings(FakeModel().opened(), FakeImages(4), cache=tmp_path):
        rows[:] = 0
    assert np.array_equal(calls_with(tmp_path, FakeImages(4))[0], expected(4, flip=True))


def cached(folder):
    (file,) = folder.iterdir()
    return file


@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_a_damaged_cache_is_computed_again(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cache")
    calls_with(folder, FakeImages(5))
    file = cached(folder)
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    changed = bytes(content) != file.read_bytes()
    file.write_bytes(content)
    rows, computed = calls_with(folder, FakeImages(5))
    assert np.array_equal(rows, expected(5, flip=True))
    assert 2 <= computed <= 10 if changed else computed == 0
    assert calls_with(folder, FakeImages(5))[1] == 0


@pytest.mark.parametrize("content", [b"", b"qface embeddings 2", b"not a cache at all, and long enough to be one"])
def test_a_file_with_another_head_is_begun_anew(tmp_path, content):
    calls_with(tmp_path, FakeImages(2))
    cached(tmp_path).write_bytes(content)
    assert calls_with(tmp_path, FakeImages(2))[1] == 4
    assert calls_with(tmp_path, FakeImages(2))[1] == 0


@pytest.mark.parametrize("kind", ["link", "hard link"])
def test_nothing_is_written_through_a_link(tmp_path, kind):
    cache, victim = tmp_path / "cache", tmp_path / "victim"
    calls_with(cache, FakeImages(2))
    victim.write_bytes(b"years of work")
    cached(cache).unlink()
    place = next(iter(cache_names(tmp_path)))
    (cache / place).symlink_to(victim) if kind == "link" else (cache / place).hardlink_to(victim)
    with pytest.raises(MeasurementError, match="cache of embeddings"):
        calls_with(cache, FakeImages(2))
    assert victim.read_bytes() == b"years of work"


def cache_names(folder):
    calls_with(folder / "other", FakeImages(1))
    return [file.name for file in (folder / "other").iterdir()]


def test_a_pipe_is_not_waited_for(tmp_path):
    (place,) = cache_names(tmp_path)
    (tmp_path / "cache").mkdir()
    os.mkfifo(tmp_path / "cache" / place)
    with pytest.raises(MeasurementError, match="pipe"):
        calls_with(tmp_path / "cache", FakeImages(1))


def test_two_processes_add_to_one_cache(tmp_path):
    children = []
    for first in (0, 100):
        children.append(os.fork())
        if not children[-1]:
            for at in range(8):
                calls_with(tmp_path, FakeImages(4, first=first + 4 * at), flip=False)
            os._exit(0)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    for first in (0, 100):
        rows, computed = calls_with(tmp_path, FakeImages(32, first=first), flip=False)
        assert computed == 0
        assert np.array_equal(rows, expected(32, flip=False, first=first))


def test_an_error_keeps_what_was_computed_before_it(tmp_path):
    with pytest.raises(MeasurementError):
        calls_with(tmp_path, FakeImages(32, broken=30))
    assert calls_with(tmp_path, FakeImages(32))[1] == 2 * 16


def test_many_images_need_one_file_and_one_descriptor(tmp_path):
    images = FakeImages(2 * PIECE + 5)
    images.crop = lambda index, frame: np.full((*frame.size, 3), index % 256, np.uint8)
    calls_with(tmp_path, images, flip=False)
    before = len(list(Path("/proc/self/fd").iterdir()))
    store = _cache.EmbeddingCache(tmp_path, FakeModel().opened(), flip=False)
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 1
    assert store.find(images.digest(2 * PIECE)) is not None
    store.close()
    assert cached(tmp_path).is_file()
    assert calls_with(tmp_path, images, flip=False)[1] == 0


def test_a_cache_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MeasurementError, match="cache of embeddings"):
        calls_with(tmp_path / "file", FakeImages(1))
