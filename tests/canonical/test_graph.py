"""A canonical network travels as plain values; a description that `to_plain` did not write is refused."""

import json

import pytest
from constant_networks import CONSTANT_NETWORKS
from gated_networks import GATED_NETWORKS, NORMALISED_NETWORKS
from quantized import run, smooth_images, trained

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.canonical.graph import check_operations, from_plain, operation, to_plain
from qface_toolkit.errors import ArtifactError, UnsupportedModel

SIZE = (16, 16)
TRAVELLERS = {
    "a scaled residual": CONSTANT_NETWORKS["scaled residual"],
    "gates": GATED_NETWORKS["residual of gates"],
    "a hard gate": GATED_NETWORKS["excitation by a hard gate"],
    "a square": GATED_NETWORKS["square"],
    "unit length": NORMALISED_NETWORKS["divided by a length of at least"],
    "a quotient": NORMALISED_NETWORKS["divided by its length"],
}


@pytest.fixture(scope="module")
def plain():
    """Return the description of a network with a gate and a normalised embedding."""
    return to_plain(canonicalise(trained(NORMALISED_NETWORKS["normalize with options"]), SIZE))


@pytest.mark.parametrize("name", TRAVELLERS)
def test_a_network_comes_back_from_its_description(name):
    canonical = canonicalise(trained(TRAVELLERS[name]), SIZE)
    plain = json.loads(json.dumps(to_plain(canonical), allow_nan=False))
    back = from_plain(plain)
    back.load_state_dict(canonical.state_dict(), strict=True, assign=True)
    check_operations(back)
    images = smooth_images(SIZE)
    assert (run(back, images) == run(canonical, images)).all()
    assert json.loads(json.dumps(to_plain(back))) == plain


@pytest.mark.parametrize(
    ("name", "eps"),
    [
        ("normalize", 1e-12),
        ("normalize with options", 1e-2),
        ("divided by its length", 0.0),
        ("divided by a length of at least", 1e-3),
    ],
)
def test_the_least_divisor_is_kept(name, eps):
    canonical = canonicalise(trained(NORMALISED_NETWORKS[name]), SIZE)
    assert [node["eps"] for node in to_plain(canonical) if node["operation"] == "normalize"] == [eps]


@pytest.mark.parametrize("eps", [None, "x", -1.0, float("nan"), float("inf"), True, [], {"a": 1}])
def test_a_strange_divisor_is_refused(plain, eps):
    damaged = [node | ({"eps": eps} if node["operation"] == "normalize" else {}) for node in plain]
    with pytest.raises(ArtifactError, match="damaged"):
        from_plain(damaged)


def test_a_missing_divisor_is_refused(plain):
    with pytest.raises(ArtifactError, match="damaged"):
        from_plain([{key: value for key, value in node.items() if key != "eps"} for node in plain])


@pytest.mark.parametrize("operation", ["sigmoid", "tanh", "normalise", "__import__", 1, None, []])
def test_an_unknown_operation_or_one_without_its_module_is_refused(plain, operation):
    damaged = [node | ({"operation": operation} if node["operation"] == "normalize" else {}) for node in plain]
    with pytest.raises(ArtifactError, match="damaged"):
        from_plain(damaged)


@pytest.mark.parametrize(("kind", "count"), [("add", 1), ("add", 3), ("mul", 1), ("mul", 3)])
def test_sums_and_products_have_two_parts(kind, count):
    nodes = [
        {"name": "x", "operation": "input", "inputs": []},
        {"name": "y", "operation": kind, "inputs": ["x"] * count},
        {"name": "output", "operation": "output", "inputs": ["y"]},
    ]
    with pytest.raises(ArtifactError, match="damaged"):
        from_plain(nodes)


def test_a_normalisation_in_the_middle_is_refused(plain):
    first, *rest = plain
    normalized = {"name": "early", "operation": "normalize", "inputs": [first["name"]], "eps": 0.1}
    rest[0] = rest[0] | {"inputs": ["early"]}
    with pytest.raises(UnsupportedModel, match="not the last operation"):
        check_operations(from_plain([first, normalized, *rest]))


def test_gates_become_sigmoids_and_products():
    for name in GATED_NETWORKS:
        if not name.startswith(("hard swish", "excitation by")):
            continue
        operations = [operation(node) for node in canonicalise(trained(GATED_NETWORKS[name]), SIZE).graph.nodes]
        gate = "hard_sigmoid" if "hard" in name else "sigmoid"
        assert operations.count(gate) == operations.count("mul") == 1, f"{name}: {operations}"
        assert operations.count("relu6") == 0, f"{name}: {operations}"
        assert operations.count("flatten") == 1, f"{name}: a gate is computed on vectors: {operations}"
