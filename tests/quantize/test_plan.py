"""Which tensors share a range, and which target quantizes what."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from odd_networks import ODD_NETWORKS, Net, conv, head
from torch import nn

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.canonical.graph import operation
from qface_toolkit.quantize.plan import make_plan
from qface_toolkit.quantize.target import ONNX, TARGETS, TORCH_FBGEMM, TORCH_X86


def plan_of(network):
    canonical = canonicalise(network.eval(), (16, 16))
    return make_plan(canonical), {node.name: operation(node) for node in canonical.graph.nodes}


def groups(plan, operations):
    """Return the operations that share a range, as a sorted list for each range."""
    by_owner = {}
    for tensor, entry in plan.tensors.items():
        by_owner.setdefault(entry.owner, []).append(operations[tensor])
    return sorted(sorted(group) for group in by_owner.values())


def test_what_only_moves_codes_shares_a_range():
    network = Net(lambda s, x: s.fc(head(F.max_pool2d(s.c(x), 2))), c=conv(3, 8), fc=nn.Linear(8, 8))
    assert groups(*plan_of(network)) == [["conv", "flatten", "global_average_pool", "max_pool"], ["input"], ["linear"]]


def test_all_parts_of_a_concat_share_a_range():
    found = groups(*plan_of(ODD_NETWORKS["concat"]))
    assert ["concat", "conv", "conv"] in found


def test_parts_that_share_through_two_concats_are_one_range():
    network = Net(
        lambda s, x: (lambda a, b, c: s.fc(head(torch.cat([torch.cat([a, b], 1), torch.cat([b, c], 1)], 1))))(
            s.a(x), s.b(x), s.c(x)
        ),
        a=conv(3, 2),
        b=conv(3, 2),
        c=conv(3, 2),
        fc=nn.Linear(8, 8),
    )
    plan, operations = plan_of(network)
    assert len({entry.owner for tensor, entry in plan.tensors.items() if operations[tensor] == "conv"}) == 1


def test_onnx_fuses_prelu_and_leaves_the_embedding_float():
    network = Net(lambda s, x: s.fc(head(s.a(s.c(x)))), c=conv(3, 8), a=nn.PReLU(8), fc=nn.Linear(8, 8))
    plan, operations = plan_of(network)
    missing = {operations[tensor] for tensor in plan.tensors if not plan.quantized(tensor, ONNX)}
    assert missing == {"conv", "linear"}
    assert all(plan.quantized(tensor, TORCH_X86) for tensor in plan.tensors)


def test_an_embedding_that_no_linear_layer_makes_is_quantized():
    plan, operations = plan_of(ODD_NETWORKS["embedding from a sum"])
    last = list(plan.tensors)[-1]
    assert operations[last] == "add"
    assert plan.quantized(last, ONNX)


def test_a_range_is_clamped_only_if_all_that_share_it_are():
    both, operations = plan_of(ODD_NETWORKS["concat of two relu6"])
    assert [both.tensors[tensor].owner in both.clamps for tensor in operations if operations[tensor] == "concat"] == [
        True
    ]
    one, operations = plan_of(ODD_NETWORKS["concat of relu6 and conv"])
    assert [one.tensors[tensor].owner in one.clamps for tensor in operations if operations[tensor] == "concat"] == [
        False
    ]


def test_a_tensor_that_becomes_another_by_relu_has_no_range():
    plan, operations = plan_of(ODD_NETWORKS["add and relu"])
    assert "add" not in {operations[tensor] for tensor in plan.tensors}


def test_weights_stay_small_where_a_kernel_adds_in_16_bits():
    wide, narrow, dense = conv(128, 128, groups=128), conv(8, 8, groups=8), conv(8, 8)
    assert [ONNX.weight_max(layer) for layer in (wide, narrow, dense)] == [127, 127, 127]
    assert [TORCH_X86.weight_max(layer) for layer in (wide, narrow, dense)] == [63, 127, 127]
    assert [TORCH_FBGEMM.weight_max(layer) for layer in (wide, narrow, dense)] == [63, 63, 127]
    assert all(target.weight_max(nn.Linear(8, 8)) == 127 for target in TARGETS.values())
