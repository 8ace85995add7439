"""The choice between the two integer forms of PReLU: by a table of times and by the noise that a coarser grid adds."""

import json
from dataclasses import replace

import pytest
import torch
from quantized import calibrated, small_model, small_network, smooth_images
from torch import nn

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.graph import operation
from qface_toolkit.errors import ArtifactError
from qface_toolkit.quantize.forms import (
    CYCLES,
    FormCycles,
    OperatorTimes,
    as_record,
    choices,
    choose_forms,
    fastest_forms,
    operator_table,
    read_form_tables,
    shape_before,
)
from qface_toolkit.quantize.groups import GroupForm
from qface_toolkit.quantize.scheme import Range
from qface_toolkit.quantize.target import ONNX
from qface_toolkit.times import ConvShape, read_table

POINTWISE = ConvShape(64, 128, 1, 1, 1, 1, 28, 28)
DEPTHWISE = ConvShape(64, 64, 3, 3, 1, 64, 28, 28)
DENSE = ConvShape(64, 64, 3, 3, 1, 1, 28, 28)


@pytest.fixture(scope="module")
def model():
    return small_model("mobilefacenet")


def sensitivity(model, of_choices):
    """Give every tensor that ONNX quantizes the same sensitivity, but for the outputs of PReLUs with a choice."""
    tensors = [name for name in model.plan.tensors if model.plan.quantized(name, ONNX)]
    return dict.fromkeys(tensors, 1.0) | {node.name: of_choices for node in choices(model)}


def tables(x86, arm):
    return {"x86": FormCycles({POINTWISE: (x86, 1.0)}), "arm": FormCycles({POINTWISE: (arm, 1.0)})}


def ratio(table, shape):
    twin, scaled = table.of(shape, GroupForm())
    return twin / scaled


@pytest.mark.parametrize("machine", ["x86", "arm"])
def test_the_committed_tables_know_the_shapes_of_known_networks(machine):
    table = read_form_tables()[machine]
    assert len(table.as_plain()) > 40
    assert ratio(table, DENSE) > 1.5, "a second dense 3x3 convolution costs much more than a 1x1 depthwise one"


def test_the_cycles_of_arm_say_whose_they_are():
    assert json.loads(CYCLES.read_text())["core"]


def test_forms_take_what_their_operators_take():
    table = read_table()
    twin, scaled = OperatorTimes(table).of(DENSE, GroupForm())
    convolution, largest = table.convolution(DENSE, "integer"), table.other("Max", DENSE.numbers)
    assert twin == 2 * convolution + largest
    assert scaled == convolution + table.convolution(ConvShape(64, 64, 1, 1, 1, 64, 28, 28), "integer") + largest


def test_the_faster_forms_are_those_of_less_time(model):
    assert set(fastest_forms(model, FormCycles({POINTWISE: (2.0, 1.0)})).values()) == {"scaled"}
    assert set(fastest_forms(model, FormCycles({POINTWISE: (0.9, 1.0)})).values()) == {"twin"}


def test_an_unknown_shape_is_judged_by_its_nearest_kin():
    table = FormCycles({POINTWISE: (2.0, 1.0), DEPTHWISE: (3.0, 1.0), DENSE: (9.0, 1.0)})
    assert ratio(table, replace(DEPTHWISE, inputs=96, outputs=96, groups=96)) == 3.0
    assert ratio(table, replace(DENSE, height=30, width=30)) == 9.0
    assert ratio(table, replace(POINTWISE, outputs=100)) == 2.0


@pytest.mark.parametrize(
    ("of_choices", "ratio", "form"),
    [(1e-9, 2.0, "scaled"), (1e9, 2.0, "twin"), (1e-9, 0.9, "twin")],
)
def test_loss_is_weighed_against_time(model, of_choices, ratio, form):
    wide = {node.args[0].name: Range(-1e3, 1e3) for node in choices(model)}
    model = model.with_ranges({**model.ranges, **wide})
    chosen = choose_forms(model, sensitivity(model, of_choices), tables(ratio, ratio))
    assert {machine: set(forms.values()) for machine, forms in chosen.items()} == {"x86": {form}, "arm": {form}}


def test_one_layer_may_differ_from_the_others(model):
    first, *others = [node.name for node in choices(model)]
    ranges = {node.args[0].name: Range(-1e3, 1e3) for node in choices(model) if node.name == first}
    forms = choose_forms(model.with_ranges({**model.ranges, **ranges}), sensitivity(model, 1.0), tables(2, 2))["x86"]
    assert forms[first] == "twin"
    assert "scaled" in {forms[name] for name in others}


def test_each_processor_has_its_own_times(model):
    wide = {node.args[0].name: Range(-1e3, 1e3) for node in choices(model)}
    model = model.with_ranges({**model.ranges, **wide})
    chosen = choose_forms(model, sensitivity(model, 1e-9), tables(2.0, 0.9))
    assert set(chosen["x86"].values()) == {"scaled"} and set(chosen["arm"].values()) == {"twin"}


def test_where_sums_read_a_prelu_every_processor_has_one_form():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.inner, self.outer = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
            self.prelu, self.within, self.fc = nn.PReLU(4), nn.PReLU(4), nn.Linear(4 * 64, 4)

        def forward(self, x):
            x = self.prelu(self.conv(x))
            return self.fc(torch.flatten(x + self.outer(self.within(self.inner(x))), 1))

    torch.manual_seed(0)
    model = calibrated(Sum().eval(), (8, 8), smooth_images((8, 8)))
    chosen = choose_forms(model, sensitivity(model, 1e-9), tables(2.0, 0.9))
    assert chosen["x86"] == {"prelu": "scaled", "within": "scaled"}
    assert chosen["arm"] == {"prelu": "scaled", "within": "twin"}


def test_calibration_chooses_and_the_choice_is_in_the_plan(model):
    own = {node.name for node in choices(model)}
    assert own and own <= set(model.plan.forms["arm"])
    again = calibrated(*small_network("mobilefacenet"))
    assert again.plan.forms == model.plan.forms


def test_a_prelu_on_a_sum_needs_no_convolution():
    class OnASum(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.prelu = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.PReLU(4)
            self.fc = nn.Linear(4 * 64, 4)

        def forward(self, x):
            return self.fc(torch.flatten(self.prelu(self.left(x) + self.right(x)), 1))

    torch.manual_seed(0)
    model = calibrated(OnASum().eval(), (8, 8), smooth_images((8, 8)))
    operations = [operation(node) for node in model.network.graph.nodes]
    assert operations.count("conv") == 2, "no identity convolution"
    assert model.plan.forms == {"x86": {"prelu": "scaled"}, "arm": {"prelu": "scaled"}}


def test_measuring_gives_a_table_that_can_be_read_back(tmp_path):
    rows = [("integer", ConvShape(4, 8, 3, 3, 2, 1, 8, 8)), ("float", ConvShape(3, 8, 3, 3, 2, 1, 8, 8))]
    rows += [("integer", ConvShape(8, 8, 3, 3, 1, 8, 8, 8, fold=2)), ("integer", ConvShape(8, 6, 1, 1, 1, 2, 5, 4))]
    measured = BACKENDS.get("onnx-x86").time_operators(rows, lambda done, total: None)
    assert set(measured) == set(rows) and min(measured.values()) > 0
    file = tmp_path / "times.json"
    for machine in ("x86", "arm"):
        file.write_text(json.dumps(as_record(machine, measured)))
        found = read_form_tables(file)
        assert {row: operator_table(found).rows[row] for row in rows} == measured
        other = "arm" if machine == "x86" else "x86"
        assert found[other] == read_form_tables()[other], "the other kind of processor keeps the package's times"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"rows": []}',
        '{"machine": "mips", "rows": [["integer", 3, 8, 3, 3, 2, 1, 8, 8, 1, 1.0]]}',
        '{"machine": "x86", "rows": [[1, 2, 3]]}',
        '{"machine": "x86", "rows": [["integer", 3, 8, 3, 3, 2, 1, 8, 8, 1, 0]]}',
        '{"machine": "x86", "rows": [["integer", "3", 8, 3, 3, 2, 1, 8, 8, 1, 1]]}',
        '{"machine": "x86", "rows": [["integer", 3, 8, 3, 3, 2, 1, 8, 8, 1, "nan"]]}',
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text):
    file = tmp_path / "times.json"
    file.write_text(text)
    with pytest.raises(ArtifactError, match="table of times"):
        read_form_tables(file)


def test_shapes_are_those_of_the_outputs(model):
    first = choices(model)[0]
    assert shape_before(first) == ConvShape(3, 8, 3, 3, 2, 1, 16, 16)
