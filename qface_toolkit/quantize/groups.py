"""Choose how a convolution of groups is written: ONNX Runtime runs one group by group, in tiny products.

Each way computes the same sums of the same numbers, so nothing but time changes. Some groups together, as one dense
convolution with zeros between them, are fewer and larger products. Interleaved, a pixel's channels are laid side by
side in its row, those of one place in every group behind one another; then each output channel of a group is one
depthwise convolution of a wider kernel, which needs no change of memory where the channels come in that order.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from torch import fx, nn

from qface_toolkit.canonical.edit import pair, shape_of
from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.quantize.target import Deployment
from qface_toolkit.quantize.weights import INPUT_BLOCK
from qface_toolkit.times import Arithmetic, ConvShape, TimeTable

MOST_FOLDS = 8
"""Input or output channels of a group up to which interleaving is tried."""


@dataclass(frozen=True)
class GroupForm:
    """How many groups are written as one, or all of them interleaved; `GroupForm()` is the layer as it is."""

    together: int = 1
    interleaved: bool = False

    @classmethod
    def of_plain(cls, plain: object) -> "GroupForm":
        """Return a form from what `as_plain` gave.

        Raises:
            ValueError: if it is none.
        """
        if plain == "interleaved":
            return cls(interleaved=True)
        if isinstance(plain, int) and not isinstance(plain, bool) and 0 < plain < 1 << 16:
            return cls(plain)
        raise ValueError(f"{plain!r} is no form of a convolution of groups")

    def as_plain(self) -> int | str:
        """Return the form as JSON holds it."""
        return "interleaved" if self.interleaved else self.together

    def fits(self, conv: nn.Conv2d) -> bool:
        """Tell whether a convolution can be written so."""
        return self in (GroupForm(), *group_forms_of(conv))


def shape_of_conv(node: fx.Node) -> ConvShape:
    """Return the geometry of a convolution or linear layer of a network whose shapes are noted."""
    return layer_shape(module(node), shape_of(node))


def layer_shape(layer: nn.Conv2d | nn.Linear, output: tuple[int, ...]) -> ConvShape:
    """Return the geometry of a layer that makes a tensor of this shape, [N, ...]."""
    if isinstance(layer, nn.Linear):
        return ConvShape(layer.in_features, layer.out_features, 1, 1, 1, 1, 1, 1)
    (rows, columns), stride = pair(layer.kernel_size), max(pair(layer.stride))
    return ConvShape(layer.in_channels, layer.out_channels, rows, columns, stride, layer.groups, output[2], output[3])


def padded(shape: ConvShape) -> ConvShape:
    """Return the geometry of an integer convolution as it is stored, with the input channels that it lacks."""
    missing = -shape.inputs % INPUT_BLOCK if shape.groups == 1 and shape.area > 1 else 0
    return replace(shape, inputs=shape.inputs + missing)


def choose_groups(network: fx.GraphModule, times: TimeTable, deployment: Deployment) -> dict[str, GroupForm]:
    """Return the fastest integer form of each convolution of groups; those that stay as they are have none."""
    nodes = [node for node in network.graph.nodes if has_groups(node)]
    found = {node.name: _fastest(node, times, "integer", _exact(module(node), deployment)) for node in nodes}
    return {name: form for name, form in found.items() if form != GroupForm()}


def fastest_float_form(node: fx.Node, times: TimeTable) -> GroupForm:
    """Return the fastest float form of a convolution of groups; interleaving is one of integers."""
    return _fastest(node, times, "float", [form for form in group_forms_of(module(node)) if not form.interleaved])


def _fastest(node: fx.Node, times: TimeTable, arithmetic: Arithmetic, forms: Iterable[GroupForm]) -> GroupForm:
    shape = shape_of_conv(node)
    return min((GroupForm(), *forms), key=lambda form: form_time(shape, form, times, arithmetic))


def _exact(conv: nn.Conv2d, deployment: Deployment) -> list[GroupForm]:
    """Return the forms that are exact: without VNNI the order in which pairs are added decides what saturates.

    Depthwise kernels add in 32 bits. Zeros between groups leave pairs as they are if a group's channels are even.
    """
    pairs_stay = deployment.vnni or conv.in_channels // conv.groups % 2 == 0
    return [form for form in group_forms_of(conv) if form.interleaved or pairs_stay]


def form_time(shape: ConvShape, form: GroupForm, times: TimeTable, arithmetic: Arithmetic) -> float:
    """Return the microseconds of a convolution in a form."""
    return sum(times.convolution(part, arithmetic) for part in parts(shape, form)) + _joining(shape, form, times)


def parts(shape: ConvShape, form: GroupForm) -> list[ConvShape]:
    """Return the convolutions that one becomes in a form."""
    if not form.interleaved:
        return [replace(shape, groups=shape.groups // form.together)]
    fold, groups = shape.inputs // shape.groups, shape.groups
    return [replace(shape, inputs=groups, outputs=groups, fold=fold)] * (shape.outputs // groups)


def _joining(shape: ConvShape, form: GroupForm, times: TimeTable) -> float:
    """Return the time of putting the outputs of interleaved parts behind one another."""
    several = form.interleaved and shape.outputs > shape.groups
    return times.other("concat", shape.numbers) if several else 0.0


def has_groups(node: fx.Node) -> bool:
    """Tell whether a node is a convolution of groups and not of single channels."""
    if operation(node) != "conv":
        return False
    conv = module(node)
    return bool(1 < conv.groups < max(conv.in_channels, conv.out_channels))


def group_forms_of(conv: nn.Conv2d) -> Iterator[GroupForm]:
    """Yield the forms that a convolution of groups has besides its own."""
    yield from (GroupForm(count) for count in range(2, conv.groups + 1) if conv.groups % count == 0)
    inputs, outputs = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    square = pair(conv.kernel_size)[0] == pair(conv.kernel_size)[1]
    if square and pair(conv.dilation) == (1, 1) and max(inputs, outputs) <= MOST_FOLDS:
        yield GroupForm(interleaved=True)


def group_forms(plain: Mapping[str, object], network: fx.GraphModule) -> dict[str, GroupForm]:
    """Return forms by the name of their convolution as a description holds them.

    Raises:
        ValueError: if one is none, or does not fit its convolution.
    """
    found = {str(name): GroupForm.of_plain(form) for name, form in plain.items()}
    layers = {node.name: module(node) for node in network.graph.nodes if has_groups(node)}
    strange = [name for name, form in found.items() if name not in layers or not form.fits(layers[name])]
    if strange:
        raise ValueError(f"these convolutions have no such form of groups: {strange[:5]}")
    return found
