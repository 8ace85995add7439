"""What every calibration source promises, whoever adds one: a new entry is tested by adding its options here."""

import json

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from qface_toolkit.sources import SOURCES, load_crops, pixel_sha256
from qface_toolkit.sources._sets import NamedSet


@pytest.fixture(scope="session")
def crop_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(0)
    for index in range(6):
        Image.fromarray(rng.integers(0, 256, (112, 112, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(params=SOURCES.names())
def opened(request, crop_folder, tiny_float):
    source = SOURCES.get(request.param)
    given = {"folder": {"path": crop_folder}, "matched": {"iterations": 1, "batch": 3}}.get(request.param, {})
    options = source.options.model_validate(given)
    return request.param, source, options, source.open(options, count=4, seed=3, model=tiny_float)


def test_crops_are_aligned_rgb(opened):
    *_, images = opened
    assert len(images) == 4
    assert load_crops(images).shape == (4, 112, 112, 3)
    assert images.crop(0).dtype == np.uint8


def test_a_crop_depends_on_its_index_alone(opened, tiny_float):
    _, source, options, images = opened
    backwards = [images.crop(index) for index in (3, 2, 1, 0)]
    again = load_crops(source.open(options, count=4, seed=3, model=tiny_float))
    assert np.array_equal(np.stack(backwards[::-1]), again)


def test_crops_differ(opened):
    *_, images = opened
    assert len({pixel_sha256(images.crop(index)) for index in range(4)}) == 4


def test_the_manifest_can_be_written_as_json(opened, tiny_float):
    kind, _, options, images = opened
    sha256 = pixel_sha256(load_crops(images))
    named = NamedSet(kind=kind, parameters=options.model_dump(), count=4, seed=3)
    written = json.loads(json.dumps(named.manifest(sha256, tiny_float).as_json()))
    assert (written["kind"], written["sha256"]) == (kind, sha256)
    assert (written["count"], written["seed"]) == (4, 3)


def test_unknown_options_are_refused(opened):
    _, source, options, _ = opened
    with pytest.raises(ValidationError, match="extra"):
        source.options.model_validate({**options.model_dump(), "colour": "blue"})


@pytest.mark.parametrize(
    ("kind", "known"), [("procedural", True), ("noise", True), ("folder", None), ("matched", None)]
)
def test_only_what_no_model_has_touched_is_known_to_hold_no_real_face(kind, known, tiny_float, tmp_path):
    source = SOURCES.get(kind)
    options = source.options(path=tmp_path) if kind == "folder" else source.options()
    Image.new("RGB", (112, 112)).save(tmp_path / "a.png")
    assert source.provenance(options, count=1, model=tiny_float).contains_no_real_face_data is known
