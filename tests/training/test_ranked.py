"""What is spread over ranks computes what one process computes: norms, directions of identities, gathered rows."""

import copy
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch
from rank_threads import in_threads
from torch import nn
from torch.nn import functional

from qface_toolkit import ranks
from qface_toolkit.errors import RanksError
from qface_toolkit.models import build_student
from qface_toolkit.ranks import ALONE, Ranks, told_ranks
from qface_toolkit.training.centres import Centres, gathered
from qface_toolkit.training.losses import arcface, distance
from qface_toolkit.training.norms import over_ranks
from qface_toolkit.training.pupil import quicken

SIZES = [2, 3]


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.PReLU(8), nn.Flatten(), nn.Linear(8 * 36, 6), nn.BatchNorm1d(6)
    )


def learnt(net, images, scale):
    """Return a loss, the gradients and the running statistics of one pass."""
    out = net(images)
    loss = (out.pow(3) * torch.linspace(0.1, 2, 6)).sum() * scale
    loss.backward()
    return loss.detach(), [one.grad for one in net.parameters()], list(net.buffers())


@pytest.mark.parametrize("size", SIZES)
def test_norms_over_ranks_are_those_of_the_whole_batch(size):
    images = 3 + 5 * torch.randn(6, 3, 8, 8)
    loss, gradients, buffers = learnt(network(), images, 1.0)
    net = network()

    def part(ranks):
        return learnt(over_ranks(copy.deepcopy(net), ranks), images.chunk(size)[ranks.rank], 1.0)

    found = in_threads(size, part)
    assert sum(one[0] for one in found).item() == pytest.approx(loss.item(), rel=1e-5)
    for place, gradient in enumerate(gradients):
        torch.testing.assert_close(sum(one[1][place] for one in found), gradient, rtol=2e-4, atol=2e-4)
    for one in found:
        for mine, whole in zip(one[2], buffers, strict=True):
            torch.testing.assert_close(mine, whole, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(a, b) for one in found[1:] for a, b in zip(one[2], found[0][2], strict=True))


def test_norms_without_weights_are_spread_too():
    images = 2 + torch.randn(6, 5)
    plain = nn.BatchNorm1d(5, affine=False)
    wanted = plain(images)
    keys = list(plain.state_dict())

    def part(ranks):
        norm = over_ranks(nn.Sequential(nn.BatchNorm1d(5, affine=False)), ranks)
        assert [key.removeprefix("0.") for key in norm.state_dict()] == keys and not list(norm.parameters())
        return norm(images.chunk(2)[ranks.rank]), norm.eval()(images)

    found = in_threads(2, part)
    torch.testing.assert_close(torch.cat([one[0] for one in found]), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1][1], plain.eval()(images), rtol=1e-5, atol=1e-5)


def test_norms_over_ranks_keep_float32_statistics_of_halves():
    images = (5 + torch.randn(4, 3, 9, 9)).bfloat16()
    plain = nn.BatchNorm2d(3)
    wanted = plain(images)

    def part(ranks):
        norm = over_ranks(nn.BatchNorm2d(3), ranks)
        return norm(images.chunk(2)[ranks.rank]), norm.running_mean

    found = in_threads(2, part)
    assert found[0][0].dtype == torch.bfloat16 == wanted.dtype
    torch.testing.assert_close(found[0][1], plain.running_mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.cat([one[0] for one in found]), wanted, rtol=2e-2, atol=2e-2)


def test_norms_over_ranks_keep_their_keys_and_do_nothing_else_in_eval_mode():
    net = network()
    (ranked, _) = in_threads(2, lambda ranks: over_ranks(copy.deepcopy(net), ranks))
    assert ranked.state_dict().keys() == net.state_dict().keys()
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(ranked.eval()(images), net.eval()(images))


def test_alone_the_norms_stay_torchs_own():
    assert isinstance(over_ranks(network(), ALONE)[1], nn.BatchNorm2d)


BATCH, SIZE, IDENTITIES = 12, 16, 7


def plain_loss(embeddings, labels, rows):
    cosines = functional.linear(functional.normalize(embeddings), functional.normalize(rows))
    right = cosines.gather(1, labels[:, None])[:, 0]
    return functional.cross_entropy(16 * cosines.scatter(1, labels[:, None], arcface(right, 0.4)[:, None]), labels)


def of_shard(ranks, embeddings, labels):
    """Return the loss of one rank, and the gradients of its embeddings and of its rows."""
    centres = Centres(SIZE, IDENTITIES, ranks, margin="arcface", seed=3)
    mine = embeddings.chunk(ranks.size)[ranks.rank].clone().requires_grad_()
    loss, right = centres(mine, labels.chunk(ranks.size)[ranks.rank], scale=16.0, margin=0.4)
    loss.backward()
    return loss.detach(), right, mine.grad / ranks.size, centres.weight.grad, centres.weight.detach()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_loss_spread_over_ranks_is_that_of_one_process(size):
    torch.manual_seed(1)
    embeddings, labels = torch.randn(BATCH, SIZE), torch.arange(BATCH) % IDENTITIES
    alone = Centres(SIZE, IDENTITIES, ALONE, margin="arcface", seed=3)
    whole, rows = embeddings.clone().requires_grad_(), alone.weight.detach().clone().requires_grad_()
    loss = plain_loss(whole, labels, rows)
    loss.backward()
    found = (
        [of_shard(ALONE, embeddings, labels)]
        if size == 1
        else in_threads(size, lambda ranks: of_shard(ranks, embeddings, labels))
    )
    assert torch.equal(torch.cat([one[4] for one in found]), rows.detach())
    for one in found:
        assert one[0].item() == pytest.approx(loss.item(), rel=1e-6)
    torch.testing.assert_close(torch.cat([one[2] for one in found]), whole.grad, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.cat([one[3] for one in found]), rows.grad, rtol=0, atol=1e-6)


def test_the_share_told_right_is_that_of_the_whole_batch():
    labels = torch.arange(BATCH) % IDENTITIES
    rows = Centres(SIZE, IDENTITIES, ALONE, margin="cosface", seed=3).weight.detach()
    embeddings = rows[labels].clone()
    embeddings[:3] *= -1
    found = in_threads(2, lambda ranks: of_shard(ranks, embeddings, labels)[1].item())
    assert found == pytest.approx([0.75, 0.75])


def test_a_sample_of_identities_holds_the_batchs_own():
    labels = torch.tensor([3, 900, 41])

    def chosen(ranks):
        centres = Centres(4, 1000, ranks, margin="arcface", seed=0)
        return centres.choose(labels, 0.1, [0, 6, 5]) + centres.mine.start, len(centres.mine)

    for found in ([chosen(ALONE)], in_threads(2, chosen)):
        rows = torch.cat([one[0] for one in found])
        assert set(labels.tolist()) <= set(rows.tolist())
        assert len(rows) == 100 and len(rows.unique()) == 100


def test_a_sampled_loss_reaches_only_the_chosen_rows():
    centres = Centres(4, 50, ALONE, margin="arcface", seed=0)
    labels = torch.tensor([3, 40])
    chosen = centres.choose(labels, 0.2, [1])
    loss, _ = centres(torch.randn(2, 4), labels, scale=8.0, margin=0.2, chosen=chosen)
    loss.backward()
    moved = centres.weight.grad.abs().sum(1).nonzero()[:, 0]
    assert set(moved.tolist()) <= set(chosen.tolist()) and {3, 40} <= set(moved.tolist())


def test_what_all_ranks_ask_of_a_row_is_summed():
    def asked(ranks):
        rows = torch.full((2, 3), float(ranks.rank), requires_grad=True)
        gathered(rows, ranks).sum().backward()
        return rows.grad

    assert all(torch.equal(gradient, torch.full((2, 3), 2.0)) for gradient in in_threads(2, asked))


def test_ranks_that_differ_are_refused_everywhere():
    with pytest.raises(RanksError, match="the same images"):
        in_threads(2, lambda ranks: ranks.check_same("images", f"{ranks.rank:064x}"))
    in_threads(2, lambda ranks: ranks.check_same("images", f"{7:064x}"))


def test_shares_cover_everything_once():
    for size in (1, 2, 3, 7):
        assert [place for rank in range(size) for place in Ranks(rank, size).share(20)] == list(range(20))


def test_ranks_are_told_by_torchrun_alone(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert told_ranks() == ALONE
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert told_ranks() == Ranks(3, 4, 0, 2)
    monkeypatch.setenv("RANK", "three")
    with pytest.raises(RanksError):
        told_ranks()


def test_a_whole_network_over_ranks_learns_as_alone():
    # In double precision: in single, a slope at nothing may fall to either side and moves a thousandth of a gradient.
    net = build_student("mobilefacenet", width=0.125).network.double()
    images, wanted = torch.randn(6, 3, 112, 96).double(), torch.randn(6, 128).double()

    def gradients(ranks):
        mine = over_ranks(copy.deepcopy(net).train(), ranks)
        quicken(mine)
        part = (given.chunk(ranks.size)[ranks.rank] for given in (images, wanted))
        found, expected = mine(next(part)), next(part)
        distance(found, expected, "mse").backward()
        return [parameter.grad / ranks.size for parameter in mine.parameters()]

    alone = copy.deepcopy(net).train()
    distance(alone(images), wanted, "mse").backward()
    spread = [sum(parts) for parts in zip(*in_threads(2, gradients), strict=True)]
    for parameter, found in zip(alone.parameters(), spread, strict=True):
        torch.testing.assert_close(found, parameter.grad, rtol=1e-9, atol=1e-12)


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr(ranks, "usable_cores", lambda: 8)
    assert ranks.threads_of_one() == 8
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("RANK", "0"), ("WORLD_SIZE", "6"), ("LOCAL_WORLD_SIZE", "3")):
        monkeypatch.setenv(name, value)
    assert ranks.threads_of_one() == 2


def test_a_process_that_is_left_alone_says_so(monkeypatch):
    """What torch says of a broken connection is no bug of ours."""
    told = Ranks(1, 2)
    monkeypatch.setattr(ranks, "told_ranks", lambda: told)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)
    monkeypatch.setattr(ranks, "_begin", lambda *_: None)
    monkeypatch.setattr(Ranks, "max", lambda _, tensor: tensor)
    with pytest.raises(RanksError, match="another process of this job has ended"), ranks.joined_ranks():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    with pytest.raises(RuntimeError, match="shapes"), ranks.joined_ranks():
        raise RuntimeError("shapes do not fit")


def test_ranks_meet_where_others_met_before_and_are_gone():
    """Whatever order they come in, and though the dead rank 0's word still lies there, with its answers."""
    store = torch.distributed.HashStore()
    for beginning in range(3):
        late = beginning % 2
        with ThreadPoolExecutor(3) as pool:
            places = []
            for rank in sorted(range(3), key=lambda rank: (rank == 0) == bool(late)):
                places.append(pool.submit(ranks.meeting_place, store, Ranks(rank, 3), timedelta(seconds=20)))
                time.sleep(0.1)
            for number, place in enumerate(places):
                place.result().set(f"{number}", f"{beginning}")
            for place in places:
                assert [place.result().get(f"{number}") for number in range(3)] == [f"{beginning}".encode()] * 3


def test_ranks_that_do_not_come_are_not_waited_for():
    store = torch.distributed.HashStore()
    for rank in (0, 1):
        with pytest.raises(RuntimeError, match=r"timeout"):
            ranks.meeting_place(store, Ranks(rank, 3), timedelta(seconds=0.2))
