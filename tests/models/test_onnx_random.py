"""Random small graphs: whatever operators follow each other, what is read computes what ONNX Runtime computes."""

import math

import numpy as np
import pytest
from onnx_files import GIVEN, assert_same, build, ints, node, write

from qface_toolkit.models import load_model

GRAPHS = 80
STEPS = 9
MOST = 3000


class Draft:
    """A graph that grows by one random operator at a time; a tensor is its name and its shape for one image."""

    def __init__(self, seed):
        self.dice = np.random.default_rng(seed)
        self.nodes, self.constants, self.tensors = [], {}, [("x", (3, 8, 8))]

    def grow(self):
        name, shape = self.tensors[self.dice.integers(max(0, len(self.tensors) - 3), len(self.tensors))]
        step = STEPS_BY_RANK[len(shape)][self.dice.integers(len(STEPS_BY_RANK[len(shape)]))]
        step(self, name, shape)

    def add(self, op, inputs, shape, **attributes):
        """Add a node; what it makes is left out if it is huge."""
        made = f"t{len(self.nodes)}"
        self.nodes.append(node(op, inputs, made, **attributes))
        self.nodes[-1].name = made
        if math.prod(shape) <= MOST:
            self.tensors.append((made, shape))

    def constant(self, values):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values)
        return name

    def floats(self, *shape):
        return self.constant(self.dice.standard_normal(shape).astype(np.float32))

    def axis(self, shape):
        """Return an axis behind that of images, counted from either end."""
        axis = int(self.dice.integers(1, len(shape) + 1))
        return axis - len(shape) - 1 if self.dice.random() < 0.3 else axis

    def finish(self):
        name, shape = self.tensors[-1]
        size = math.prod(shape)
        matrix = self.floats(size, 8)
        self.nodes.append(node("Reshape", f"{name} {self.constant(ints(-1, size))}", "flat"))
        self.nodes.append(node("MatMul", f"flat {matrix}", "y"))
        return build(self.nodes, self.constants)


def activation(draft, name, shape):
    draft.add(
        draft.dice.choice(["Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Softplus", "Erf", "Elu", "HardSwish"]), name, shape
    )


def with_constant(draft, name, shape):
    kept = [size if draft.dice.random() < 0.5 else 1 for size in shape]
    values = draft.floats(*kept[draft.dice.integers(len(shape)) :])
    order = (name, values) if draft.dice.random() < 0.7 else (values, name)
    draft.add(draft.dice.choice(["Add", "Mul", "Sub", "Max", "Min"]), " ".join(order), shape)


def with_another(draft, name, shape):
    fitting = [other for other, sizes in draft.tensors if sizes == shape]
    draft.add(draft.dice.choice(["Add", "Mul", "Sub", "Max", "Min"]), f"{name} {draft.dice.choice(fitting)}", shape)


def transpose(draft, name, shape):
    order = draft.dice.permutation(len(shape))
    perm = [0, *(int(axis) + 1 for axis in order)]
    draft.add("Transpose", name, tuple(shape[axis] for axis in order), perm=perm)


def reshape(draft, name, shape):
    size, sizes = math.prod(shape), []
    while size > 1 and len(sizes) < 3:
        factor = int(draft.dice.choice([part for part in range(1, size + 1) if size % part == 0]))
        sizes.append(factor)
        size //= factor
    sizes = [*sizes, size] if size > 1 or not sizes else sizes
    free = int(draft.dice.integers(len(sizes) + 1))
    asked = [-1 if place == free else whole for place, whole in enumerate([0, *sizes])]
    draft.add("Reshape", f"{name} {draft.constant(ints(*asked))}", tuple(sizes))


def piece(draft, name, shape):
    axis = draft.axis(shape)
    size = shape[axis - 1 if axis > 0 else axis]
    first, step = int(draft.dice.integers(size)), int(draft.dice.choice([1, 1, 2]))
    count = len(range(first, size, step))
    parts = [draft.constant(ints(number)) for number in (first, 2**40, axis, step)]
    draft.add("Slice", " ".join([name, *parts]), swapped(shape, axis, count))


def swapped(shape, axis, size):
    changed = list(shape)
    changed[axis - 1 if axis > 0 else axis] = size
    return tuple(changed)


def gather(draft, name, shape):
    axis = draft.axis(shape)
    places = draft.dice.integers(shape[axis - 1 if axis > 0 else axis], size=draft.dice.integers(1, 4))
    draft.add("Gather", f"{name} {draft.constant(ints(*places))}", swapped(shape, axis, len(places)), axis=axis)


def concat(draft, name, shape):
    axis = draft.axis(shape)
    draft.add("Concat", f"{name} {name}", swapped(shape, axis, 2 * shape[axis - 1 if axis > 0 else axis]), axis=axis)


def reduce(draft, name, shape):
    axis, kept = draft.axis(shape), bool(draft.dice.random() < 0.6)
    op = draft.dice.choice(["ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceL1", "ReduceSumSquare"])
    made = list(swapped(shape, axis, 1))
    if not kept and len(shape) > 1:
        del made[axis - 1 if axis > 0 else axis]
    draft.add(op, name, tuple(made), axes=[axis], keepdims=int(kept or len(shape) == 1))


def softmax(draft, name, shape):
    draft.add("Softmax", name, shape, axis=draft.axis(shape))


def layer_norm(draft, name, shape):
    scale, shift = draft.floats(shape[-1]), draft.floats(shape[-1])
    draft.add("LayerNormalization", f"{name} {scale} {shift}", shape, epsilon=0.1)


def matrix(draft, name, shape):
    draft.add("MatMul", f"{name} {draft.floats(shape[-1], 5)}", (*shape[:-1], 5))


def its_own_product(draft, name, shape):
    turned = (*range(len(shape) - 1), len(shape), len(shape) - 1)
    draft.add("Transpose", name, (*shape[:-2], shape[-1], shape[-2]), perm=list(turned))
    draft.add("MatMul", f"{name} {draft.nodes[-1].output[0]}", (*shape[:-2], shape[-2], shape[-2]))


def unsqueeze(draft, name, shape):
    place = int(draft.dice.integers(len(shape) + 1))
    draft.add("Unsqueeze", f"{name} {draft.constant(ints(place + 1))}", (*shape[:place], 1, *shape[place:]))


def conv(draft, name, shape):
    kernel = int(draft.dice.integers(1, min(3, *shape[1:]) + 1))
    weight = draft.floats(4, shape[0], kernel, kernel)
    draft.add("Conv", f"{name} {weight}", (4, shape[1] - kernel + 1, shape[2] - kernel + 1))


def batch_norm(draft, name, shape):
    parts = [draft.floats(shape[0]) for _ in range(3)]
    variance = draft.constant(draft.dice.random(shape[0]).astype(np.float32) + 0.5)
    draft.add("BatchNormalization", " ".join([name, *parts, variance]), shape)


def prelu(draft, name, shape):
    draft.add("PRelu", f"{name} {draft.floats(shape[0], 1, 1)}", shape)


def pool(draft, name, shape):
    kernel = int(draft.dice.integers(1, min(3, *shape[1:]) + 1))
    sizes = tuple((size - kernel) // 2 + 1 for size in shape[1:])
    op = draft.dice.choice(["MaxPool", "AveragePool"])
    draft.add(op, name, (shape[0], *sizes), kernel_shape=[kernel] * 2, strides=[2, 2])


def pad(draft, name, shape):
    pads = draft.dice.integers(0, 3, size=(2, len(shape)))
    before, behind = ([0, *map(int, side)] for side in pads)
    draft.add(
        "Pad", f"{name} {draft.constant(ints(*before, *behind))}", tuple(int(s) for s in np.add(shape, pads.sum(0)))
    )


ANY = [activation, with_constant, with_another, transpose, reshape, piece, gather, concat, reduce, softmax, layer_norm]
ANY = [*ANY, unsqueeze]
ROWS = [*ANY, matrix, its_own_product]
PICTURES = [*ROWS, conv, conv, batch_norm, prelu, pool, pad]
STEPS_BY_RANK = {1: [activation, with_constant, with_another, reshape, softmax, unsqueeze], 2: ROWS, 3: PICTURES}
STEPS_BY_RANK |= {rank: [one for one in ROWS if one is not unsqueeze] for rank in (4, 5, 6, 7)}


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_random_graphs_compute_what_onnx_runtime_does(seed, tmp_path):
    draft = Draft(seed)
    for _ in range(STEPS):
        draft.grow()
    path = write(tmp_path / "net.onnx", draft.finish())
    assert_same(path, load_model(path, overrides={**GIVEN, "checked": True}), most=1e-3)
