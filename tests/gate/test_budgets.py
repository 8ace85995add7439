"""Budgets: defaults, then a file, then settings; every mistake in words."""

import pytest

from qface_toolkit.errors import RecipeError
from qface_toolkit.gate import Budgets, read_budgets


def test_defaults():
    found = read_budgets()
    assert found == Budgets()
    assert (found.size_bytes_growth, found.cosine_mean_fall, found.cosine_p1_fall) == (0.005, 0.0005, 0.0005)
    assert (found.integer_convolutions_fewer, found.float_operators_more, found.operators_more) == (0, 0, 0)


def test_a_file_goes_before_the_defaults_and_a_setting_before_both(tmp_path):
    file = tmp_path / "budgets.yaml"
    file.write_text("version: 1\nlatency_growth: 0.2\nsize_bytes_growth: 0.1\ncosine_p1_fall: null\n")
    found = read_budgets(file, ["latency_growth=0.3", "cosine_mean_fall=null"])
    assert (found.latency_growth, found.size_bytes_growth) == (0.3, 0.1)
    assert (found.cosine_mean_fall, found.cosine_p1_fall) == (None, None)


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "budgets.yaml").write_text("# nothing\n")
    assert read_budgets(tmp_path / "budgets.yaml") == Budgets()


MISTAKES = {
    "unknown key": ("latency_grows: 1", "did you mean latency_growth"),
    "a list": ("- 1", "budgets are"),
    "negative": ("latency_growth: -0.1", "greater than or equal to 0"),
    "text": ("size_bytes_growth: lots", "size_bytes_growth"),
    "nan": ("latency_growth: .nan", "latency_growth"),
    "half an operator": ("operators_more: 0.5", "operators_more"),
    "another version": ("version: 2", "version"),
    "no YAML": ("a: [", "not YAML"),
    "twice": ("version: 1\nversion: 1", "twice"),
}


@pytest.mark.parametrize(("text", "told"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named(text, told, tmp_path):
    file = tmp_path / "budgets.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError) as found:
        read_budgets(file)
    assert told in str(found.value)
    assert str(file) in str(found.value)


def test_mistakes_in_settings_are_named_together():
    with pytest.raises(RecipeError) as found:
        read_budgets(None, ["latency_growt=0.1", "nothing"])
    assert "did you mean latency_growth" in str(found.value)
    assert "KEY=VALUE" in str(found.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(RecipeError, match="no such file"):
        read_budgets(tmp_path / "none.yaml")
