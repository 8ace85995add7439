"""The integer program: what operations become in each kind of target, and what holds of every program."""

import dataclasses
import functools

import numpy as np
import pytest
from odd_networks import ODD_NETWORKS
from quantized import QUICK_NETWORKS, SMALL_NETWORKS, calibrated, small_model, smooth_images, trained
from tiers import in_tiers
from tiny_model import golden_model

from qface_toolkit.backends.onnx_qdq._groups import Fold, Join
from qface_toolkit.backends.onnx_qdq.printer import PRINTERS
from qface_toolkit.integer import program as ops
from qface_toolkit.integer import simulate
from qface_toolkit.integer.making import program_of
from qface_toolkit.integer.simulate import Simulator
from qface_toolkit.quantize.target import ONNX, OPENVINO, TORCH_X86, Deployment

KINDS = (ONNX, TORCH_X86, OPENVINO)
"""One target of each kind: activations on codes, in kernels of their own, and fused with the layer before."""
ODD = list(ODD_NETWORKS)[::4]


@functools.cache
def model_of(name):
    """Return the model of a small network, or of an odd one, made once for all targets."""
    return small_model(name) if name in SMALL_NETWORKS else calibrated(trained(ODD_NETWORKS[name]), (16, 16))


def shown(one):
    """Return an operation in a line: what it makes of what, and on what grid."""
    grid = "float" if one.grid is None else f"{one.grid.scale:.6g} x (code - {one.grid.zero_point})"
    return f"{type(one).__name__:17} {one.output:16} <- {', '.join(one.sources) or 'image':24} {grid}"


def test_golden_programs(golden):
    """A tiny network where activations run on codes, in kernels of their own, and fused with the layer before."""
    model, lines = golden_model(), []
    for target in KINDS:
        lines += ["", target.name, *map(shown, program_of(model, target).operations)]
    golden("tiny_program.txt", "\n".join(lines[1:]) + "\n")


@pytest.mark.parametrize("target", KINDS, ids=lambda target: target.name)
@pytest.mark.parametrize("name", in_tiers([*SMALL_NETWORKS, *ODD], fast=[*QUICK_NETWORKS, *ODD[::2]]))
def test_every_value_is_made_once_and_before_it_is_read(name, target):
    program, made = program_of(model_of(name), target), set()
    for one in program.operations:
        assert made.issuperset(one.sources), f"{one.output} reads what nobody has made"
        assert one.output not in made
        made.add(one.output)
    assert made.issuperset({*program.tensors, program.embedding})
    assert program.grids.keys() >= set(program.tensors), "a tensor that is held as codes has a grid"


def test_a_name_with_a_dot_is_no_tensor():
    program = program_of(small_model("mobilefacenet").with_forms({}), ONNX)
    between = [one.output for one in program.operations if one.output not in program.tensors]
    assert [name for name in program.tensors if "." in name] == []
    assert all("." in name or name in program.shapes for name in between)


def test_every_operation_on_codes_has_a_printer():
    kinds = {kind for kind in vars(ops).values() if isinstance(kind, type) and issubclass(kind, ops.Operation)}
    fused_alone, torch_alone = {ops.Affine, ops.Pad}, {ops.Slopes}
    assert kinds - {ops.Operation} - fused_alone - torch_alone == set(PRINTERS) - {Fold, Join}


def test_making_a_program_leaves_the_model_alone():
    model = small_model("mobilefacenet")
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    program = program_of(dataclasses.replace(model, deployment=Deployment(image="uint8")), ONNX)
    assert program.takes_pixels
    assert all((tensor == before[name]).all() for name, tensor in model.network.state_dict().items())
    assert next(iter(Simulator(program).codes(smooth_images(model.spec.input_size, count=2)))).keys() == set(
        program.tensors
    )


def test_smaller_batches_give_the_same_codes(monkeypatch):
    model, images = small_model("mobilefacenet"), smooth_images((32, 32), count=3)
    together = next(Simulator(program_of(model, ONNX)).codes(images))
    monkeypatch.setattr(simulate, "MOST_NUMBERS", 1)
    alone = list(Simulator(program_of(model, ONNX)).codes(images))
    assert len(alone) == 3
    assert all((np.concatenate([one[name] for one in alone]) == codes).all() for name, codes in together.items())
