"""Every byte and every microsecond of a file is booked on one layer, under the name that people know it by."""

import numpy as np
import pytest
from qdq_files import QdqFile, float_network, whole, write

from qface_toolkit.backends._profile import inspect_onnx
from qface_toolkit.runtimes.cost import measure_cost, node_names
from qface_toolkit.runtimes.fusion import Operator


def two_layers():
    file = QdqFile()
    first = file.pair(file.conv(file.pair("image"), 3, "first"))
    return file.model(file.head(file.pair(file.conv(first, name="second"))))


@pytest.mark.parametrize("network", [two_layers, float_network, whole])
def test_nothing_is_lost_and_nothing_counted_twice(network, tmp_path):
    model = network()
    path = write(model, tmp_path / "file.onnx")
    fusion = inspect_onnx(path)
    cost = measure_cost(model.graph, fusion.operators, path.stat().st_size)
    weights = sum(tensor.ByteSize() for tensor in model.graph.initializer)
    assert sum(layer.size_bytes for layer in cost.layers) >= weights
    assert sum(layer.size_bytes for layer in cost.layers) + cost.other_bytes == path.stat().st_size
    assert cost.other_bytes > 0
    assert sum(layer.time_us for layer in cost.layers if layer.time_us) == pytest.approx(fusion.time_us)
    assert sum(sum(layer.operators.values()) for layer in cost.layers) == len(fusion.operators)


def test_layers_are_called_by_the_tensors_they_end_with(tmp_path):
    model = two_layers()
    path = write(model, tmp_path / "file.onnx")
    ends = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    # image, first, second, and what the head adds.
    tensors = dict(zip(ends, ("x", "stem", "body"), strict=False))
    cost = measure_cost(model.graph, inspect_onnx(path).operators, path.stat().st_size, tensors)
    costs = {layer.name: layer for layer in cost.layers}
    assert list(costs)[:3] == ["x", "stem", "body"]
    for layer, conv in (("stem", "first"), ("body", "second")):
        [node] = [node for node in model.graph.node if node.name == conv]
        quantizers = [other for other in model.graph.node if other.output[0] in node.input]
        read = {name for other in (*quantizers, node) for name in other.input}
        own = [t.ByteSize() for t in model.graph.initializer if t.name in read and np.prod(t.dims) > 1]
        assert sum(own) <= costs[layer].size_bytes < sum(own) + 200
        assert costs[layer].operators["QLinearConv"] == 1


def test_what_the_runtime_put_there_works_for_what_follows():
    model = two_layers()
    operators = [
        Operator("Reorder", "r", "move", (), (), None, 1.0),
        Operator("Conv", "first", "float", (), (), "first", 2.0),
        Operator("Conv", "second", "float", (), (), "second", 4.0),
        Operator("Reorder", "q", "move", (), (), None, None),
    ]
    cost = measure_cost(model.graph, operators, 10_000)
    times = {layer.name: (layer.time_us, dict(layer.operators)) for layer in cost.layers if layer.operators}
    assert times["first"] == (3.0, {"Conv": 1, "Reorder": 1})
    assert times["second"] == (4.0, {"Conv": 1})
    last = cost.layers[-1]
    assert (last.time_us, dict(last.operators)) == (None, {"Reorder": 1})


def test_names_differ_even_where_the_file_repeats_them():
    model = two_layers()
    for node in model.graph.node:
        node.name = "same"
    names = node_names(model.graph.node)
    assert len(set(names)) == len(names) == len(model.graph.node)
    assert names[:2] == ["same", "same (1)"]
