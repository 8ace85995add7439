"""The table of operator times: what it holds, what lies between its rows, and files that hold none."""

import json
import math
from dataclasses import replace

import pytest

from qface_toolkit.errors import ArtifactError
from qface_toolkit.times import TABLE, ConvShape, TimeTable, read_rows, read_table
from qface_toolkit.times.table import features, kind_of

POINTWISE = ConvShape(64, 128, 1, 1, 1, 1, 28, 28)
DEPTHWISE = ConvShape(64, 64, 3, 3, 1, 64, 28, 28)
DENSE = ConvShape(64, 64, 3, 3, 1, 1, 28, 28)
GROUPS = ConvShape(128, 128, 3, 3, 1, 64, 56, 56)


@pytest.fixture(scope="module")
def table():
    return read_table()


def test_the_committed_table_says_where_it_is_from(table):
    plain = json.loads(TABLE.read_text())
    assert "avx512_vnni" in plain["environment"]["cpu_flags"]
    assert len(table.rows) > 1000 and table.each < 0
    assert table.other("QLinearAdd", 1e6) > table.other("QLinearAdd", 1e3) > 0
    assert table.other("nobody knows", 1e6) == table.other("move", 1e6)


def test_every_kind_that_a_network_may_have_has_a_fit(table):
    shapes = (
        POINTWISE,
        DEPTHWISE,
        DENSE,
        GROUPS,
        replace(DEPTHWISE, kernel=1, columns=1),
        ConvShape(9, 7, 1, 1, 1, 1, 1, 1),
    )
    odd = [replace(shape, inputs=shape.inputs * 3 // 2 + 0, outputs=shape.outputs) for shape in (POINTWISE, DENSE)]
    odd += [
        ConvShape(20, 20, 3, 3, 1, 20, 28, 28),
        ConvShape(20, 20, 1, 1, 1, 20, 28, 28),
        ConvShape(20, 24, 3, 3, 1, 1, 9, 9),
    ]
    for shape in (*shapes, *odd, replace(GROUPS, groups=4)):
        for arithmetic in ("integer", "float"):
            assert 0.5 < table.convolution(shape, arithmetic) < 1e5, (arithmetic, shape)


def test_a_measured_shape_has_its_own_time_and_others_lie_between(table):
    assert table.convolution(GROUPS, "integer") == table.rows["integer", GROUPS]
    near = replace(DENSE, height=30, width=30)
    assert ("integer", near) not in table.rows
    low, high = (table.convolution(replace(DENSE, height=size, width=size), "integer") for size in (28, 56))
    assert 0.9 * low < table.convolution(near, "integer") < high


def test_left_out_rows_are_found_again_within_a_fifth(table):
    """Half of the rows by their kind, of those that take more than a hundredth of a millisecond's noise."""
    errors = [
        abs(math.log(table.estimate(shape, arithmetic, without=shape) / time))
        for (arithmetic, shape), time in table.rows.items()
        if time > 50
    ]
    assert sorted(errors)[len(errors) // 2] < 0.2


def test_what_is_known_of_groups_is_in_the_table(table):
    """What the runtime does group by group takes many times what the same numbers take as channels of their own."""
    groups = table.convolution(GROUPS, "integer")
    parts = 2 * table.convolution(replace(GROUPS, inputs=64, outputs=64, fold=2), "integer")
    assert groups > 5 * parts


def test_rows_of_another_measurement_take_the_place_of_the_own(table):
    other = table.with_rows({("integer", POINTWISE): 7.0})
    assert other.convolution(POINTWISE, "integer") == 7.0
    assert other.convolution(POINTWISE, "float") == table.convolution(POINTWISE, "float")
    assert read_rows(json.loads(json.dumps(other.as_plain()))) == other.rows


def test_kinds_part_where_kernels_do():
    assert kind_of("float", DEPTHWISE) != kind_of("float", replace(DEPTHWISE, inputs=65, outputs=65, groups=65))
    assert kind_of("integer", DENSE) != kind_of("integer", POINTWISE)
    assert kind_of("float", ConvShape(3, 64, 3, 3, 2, 1, 56, 56)) == kind_of("float", DENSE), "the image has 3 channels"
    assert len(features("integer", DENSE)) == len(features("float", DEPTHWISE))


@pytest.mark.parametrize(
    "rows",
    [
        "none",
        [["integer", 64, 64, 3, 3, 1, 1, 28, 28, 1]],
        [["decimal", 64, 64, 3, 3, 1, 1, 28, 28, 1, 5.0]],
        [["integer", 64, 64, 3, 3, 1, 7, 28, 28, 1, 5.0]],
        [["integer", 64, 64, 3, 3, 1, 1, 28, 28, 1, -5.0]],
        [["integer", 64, 64, 3, 3, 0, 1, 28, 28, 1, 5.0]],
        [["integer", 1 << 40, 64, 3, 3, 1, 1, 28, 28, 1, 5.0]],
        [["integer", 64, 64, 3, 3, 1, 1, 28, 28, True, 5.0]],
        [[]],
        [None],
    ],
)
def test_what_is_no_row_is_refused(rows):
    with pytest.raises((ValueError, TypeError)):
        read_rows(rows)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"rows": []}', '{"rows": [], "fits": {}, "others": {"a": 1}, "each": 0, "share": 1}']
)
def test_a_file_that_holds_no_table_is_named(tmp_path, content):
    file = tmp_path / "times.json"
    file.write_text(content)
    with pytest.raises(ArtifactError, match="no table of times"):
        read_table(file)


def test_a_table_needs_its_rows_for_nothing_but_what_they_add():
    fits = {"integer pointwise": (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)}
    bare = TimeTable({}, fits, {"move": (1.0, 1.0)})
    assert bare.convolution(POINTWISE, "integer") == 1.0
    twice = bare.with_rows({("integer", replace(POINTWISE, height=27)): 2.0})
    assert 1.5 < twice.convolution(POINTWISE, "integer") < 2.0, "a row nearby tells of its neighbours"
