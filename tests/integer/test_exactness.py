"""Which values follow to the bit is told from the program alone."""

import pytest
from gated_networks import GATED_NETWORKS, NORMALISED_NETWORKS
from odd_networks import ISLAND_NETWORKS, ODD_NETWORKS, Net, conv, head
from quantized import calibrated, small_model, trained
from torch import nn

from qface_toolkit.integer import exactness
from qface_toolkit.integer.exactness import inexact_values
from qface_toolkit.integer.making import program_of
from qface_toolkit.integer.program import Table
from qface_toolkit.quantize.target import ONNX, OPENVINO, TORCH_QNNPACK

PREPARED = Net(lambda s, x: s.fc(head(s.c((x * 2 - 1) * 0.5))), c=conv(3, 8), fc=nn.Linear(8, 8))


def program(network, target=ONNX):
    return program_of(calibrated(trained(network), (16, 16)), target)


@pytest.mark.parametrize("target", [ONNX, TORCH_QNNPACK], ids=lambda target: target.name)
@pytest.mark.parametrize("name", ["mobilefacenet", "iresnet"])
def test_what_integers_compute_is_exact(name, target):
    assert not inexact_values(program_of(small_model(name), target))


@pytest.mark.parametrize("network", [ODD_NETWORKS["concat"], ISLAND_NETWORKS["shuffle"], PREPARED])
def test_moves_and_the_preparation_of_the_image_are_exact(network):
    assert not inexact_values(program(network))


def test_a_float_is_not_and_nor_is_what_follows_unless_it_is_known():
    found = program(ISLAND_NETWORKS["early normalize"])
    inexact = inexact_values(found)
    assert inexact and found.embedding in inexact
    (first,) = (one for one in found.operations if one.output in inexact and not set(one.sources) & inexact)
    assert found.embedding not in inexact_values(found, inexact)
    assert first.output in inexact_values(found, inexact)


def test_the_length_of_an_embedding_is_a_sum_of_floats():
    found = program(NORMALISED_NETWORKS["normalize"])
    assert inexact_values(found) == {found.embedding}


def test_a_runtime_that_rounds_whole_kernels_is_not_followed_at_all():
    assert program_of(small_model("iresnet"), OPENVINO).embedding in inexact_values(
        program_of(small_model("iresnet"), OPENVINO)
    )


@pytest.mark.parametrize(("distance", "exact"), [(0.0, True), (0.5, False)])
def test_a_table_is_exact_unless_a_value_lies_in_the_middle_between_codes(distance, exact, monkeypatch):
    monkeypatch.setattr(exactness, "_NEAR_THE_MIDDLE", distance)
    found = program(GATED_NETWORKS["silu"])
    tables = {one.output for one in found.operations if isinstance(one, Table)}
    assert tables and (not inexact_values(found)) == exact
