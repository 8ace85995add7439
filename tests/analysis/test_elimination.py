"""Which channels go first, what that is said to cost, and how much of it the layers behind take over."""

import numpy as np
import pytest
import torch
from drawn_demo import demo_model, drawn_images, multiplications

from qface_toolkit.analysis.elimination import find_orders
from qface_toolkit.analysis.narrowing import FEWEST, narrow_to, smallest
from qface_toolkit.analysis.removable import find_removable, narrowed
from qface_toolkit.analysis.repair import repair
from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.quantize.model import embed
from qface_toolkit.scoring.agreement import row_cosines

pytestmark = pytest.mark.slow


def quiet(done, total):
    pass


@pytest.fixture(scope="module")
def model():
    return demo_model()


@pytest.fixture(scope="module")
def images():
    return drawn_images(80)


@pytest.fixture(scope="module")
def removable(model):
    return find_removable(model.network, model.spec.input_size)


@pytest.fixture(scope="module")
def orders(model, removable, images):
    return find_orders(model.network, removable, images[:64], seed=0, batch_size=16, progress=quiet)


def cosine(network, model, images):
    return float(row_cosines(model.embed(images), embed(network, images)).mean())


def without(model, removable, gone, images, repaired=True):
    small = narrowed(model.network, removable, gone)
    if repaired:
        repair(small, model.network, removable.stays(gone), images[:64], seed=0, batch_size=16, progress=quiet)
    return cosine(small, model, images[64:])


def test_losses_rise_and_say_about_what_it_costs(model, removable, orders, images):
    for order in orders[::4]:
        assert (np.diff(order.losses) >= 0).all() and len(order.losses) == len(order.space.classes)
        quarter = len(order.space.classes) // 4
        found = 1 - without(model, removable, order.classes[:quarter], images)
        assert found < 4 * order.losses[quarter] + 0.003, order.space.name


def test_repairing_gives_back_most_of_what_was_taken(model, removable, orders, images):
    gone = [one for order in orders for one in order.classes[: len(order.space.classes) // 4]]
    taken, repaired = (1 - without(model, removable, gone, images, repaired=on) for on in (False, True))
    assert repaired < taken / 4


def test_a_channel_that_says_what_others_say_is_not_missed(model, images):
    """A second copy of a channel can go at no cost, though its weights are as large as any."""
    network = narrowed(model.network, find_removable(model.network, model.spec.input_size), [])
    node = next(one for one in network.graph.nodes if operation(one) == "conv")
    chain = [node]
    while operation(chain[-1]) != "conv" or chain[-1] is node or module(chain[-1]).groups > 1:
        for part in (getattr(module(chain[-1]), key, None) for key in ("weight", "bias")):
            if part is not None:
                part.data[1] = part.data[0]
        chain.append(next(iter(chain[-1].users)))
    removable = find_removable(network, model.spec.input_size)
    orders = find_orders(network, removable, images[:32], seed=0, batch_size=16, progress=quiet)
    (order,) = (one for one in orders if one.space.name == node.name)
    twins = set(removable.of[node.name][:2].tolist())
    assert order.classes[0] in twins
    assert order.losses[1] < order.losses[-1] / 1000


@pytest.mark.parametrize("share", [0.75, 0.4])
def test_a_network_is_narrowed_to_a_share(model, removable, orders, share):
    whole = sum(multiplications(model.network).values())
    found = narrow_to(model.network, removable, orders, multiplications, share, 4)
    small = narrowed(model.network, removable, found.gone(orders))
    assert sum(multiplications(small).values()) == found.cost <= share * whole
    assert found.cost > 0.8 * share * whole
    for order, lost in zip(orders, found.lost, strict=True):
        left = len(order.space.classes) - lost
        assert lost == 0 or (left % 4 == 0 and left >= FEWEST)


def test_what_is_dear_goes_first(model, removable, orders):
    """The price decides, not the number of channels."""
    whole, plain = multiplications(model.network), narrow_to(model.network, removable, orders, multiplications, 0.9, 4)
    left = multiplications(narrowed(model.network, removable, plain.gone(orders)))
    dear = next(order.space.name for order in orders if left[order.space.name] == whole[order.space.name])

    def priced(network):
        return {name: value * (1000 if name == dear else 1) for name, value in multiplications(network).items()}

    dearer = narrow_to(model.network, removable, orders, priced, 0.9, 4)
    assert multiplications(narrowed(model.network, removable, dearer.gone(orders)))[dear] < 0.9 * whole[dear]


def test_the_smallest_network_is_known_before(model, removable, orders):
    least = smallest(model.network, removable, orders, multiplications)
    assert least.cost < 0.5 * sum(multiplications(model.network).values()) and least.loss > 0.1
    found = narrow_to(model.network, removable, orders, multiplications, 0.001, 4)
    assert least.cost <= found.cost < 1.1 * least.cost


def test_repairing_is_the_same_each_time(model, removable, orders, images):
    gone = orders[1].classes[:8]
    made = []
    for _ in range(2):
        small = narrowed(model.network, removable, gone)
        repair(small, model.network, removable.stays(gone), images[:32], seed=3, batch_size=8, progress=quiet)
        made.append(small.state_dict())
    assert all(torch.equal(value, made[1][name]) for name, value in made[0].items())
