"""The suite's folder, and the rows that others published."""

import pytest
from ijb_files import write_protocol

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation import SUITE_KEYS, find_suite, published_rows


def test_sets_are_found_by_their_usual_names(tmp_path):
    for name in ("lfw.bin", "CFP-FP.bin", "agedb_30.bin", "other.bin"):
        (tmp_path / name).touch()
    write_protocol(tmp_path / "IJB-C")
    (tmp_path / "IJBB").mkdir()
    found = find_suite(tmp_path)
    assert {key: path.name for key, path in found.pairs.items()} == {
        "lfw": "lfw.bin",
        "cfp_fp": "CFP-FP.bin",
        "agedb_30": "agedb_30.bin",
    }
    assert found.ijb == {"ijbc": tmp_path / "IJB-C"}
    assert found.missing == {"calfw": "no calfw.bin", "cplfw": "no cplfw.bin", "ijbb": "no IJBB"}


@pytest.mark.parametrize("place", ["", "ijb/IJBC", "IJB_release/IJBC", "ijb-c"])
def test_a_protocol_is_found_where_it_is_usually_unpacked(tmp_path, place):
    write_protocol(tmp_path / "sets" / place)
    assert find_suite(tmp_path / "sets").ijb == {"ijbc": tmp_path / "sets" / place}


@pytest.mark.parametrize("name", ["empty", "missing", "file"])
def test_a_folder_without_sets_is_said(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(MeasurementError, match="none of the sets is here") as raised:
        find_suite(tmp_path / name)
    assert "lfw.bin" in raised.value.fix


def published(system, model, config):
    (row,) = (row for row in published_rows() if (row.system, row.model, row.config) == (system, model, config))
    return row


def test_published_figures_are_rates_of_the_suites_sets():
    for row in published_rows():
        assert row.figures.keys() <= set(SUITE_KEYS)
        assert all(0.5 < rate < 1 for rate in row.figures.values())
        assert row.source


def test_published_figures_are_those_of_the_papers():
    assert published("QuantFace", "iResNet100", "w8a8 synthetic").figures == {
        "lfw": 0.998,
        "cfp_fp": 0.9814,
        "agedb_30": 0.9795,
        "calfw": 0.9602,
        "cplfw": 0.929,
        "ijbb": 0.9474,
        "ijbc": 0.9609,
    }
    assert published("PocketNet", "PocketNetS-128", "float").figures["ijbc"] == 0.9162
    assert [row.figures for row in published_rows() if row.system == "Ef-QuantFace"] == [{"ijbc": 0.9615}]
    assert len(published_rows()) == 22


def test_a_row_that_was_inferred_says_so():
    assert "inferred" in published("QuantFace", "iResNet50", "w8a8 real").note
    assert published("QuantFace", "iResNet50", "float").note is None
