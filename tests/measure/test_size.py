"""Sizes are those of real files."""

import pytest

from qface_toolkit.errors import MeasurementError
from qface_toolkit.measure.size import FileSize, measure_size, size_ratio


def test_file_and_folder_are_weighed(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"x" * 10)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "b.bin").write_bytes(b"x" * 5)
    assert measure_size(tmp_path / "a.bin") == FileSize(10)
    assert measure_size(tmp_path) == FileSize(15)


def test_ratio_is_other_over_reference():
    assert size_ratio(FileSize(4000), FileSize(1000)) == 0.25


@pytest.mark.parametrize("made", ["absent", "empty file", "empty folder"])
def test_nothing_cannot_be_weighed(tmp_path, made):
    path = tmp_path / "thing"
    if made == "empty file":
        path.write_bytes(b"")
    elif made == "empty folder":
        path.mkdir()
    with pytest.raises(MeasurementError, match="nothing to weigh"):
        measure_size(path)
