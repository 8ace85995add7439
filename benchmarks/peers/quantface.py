"""The rule that QuantFace publishes (arXiv 2206.10526), rebuilt from its description and from none of its code.

The rule and its training are the package's (`qface_toolkit.methods.quantface`, recipes quantface-w8a8 and -w6a6); here
they get this benchmark's drawings, steps and rates. As published, BatchNorm takes the statistics of every batch and
ranges grow while weights change; the grid has that, and frozen statistics with the ranges that drawings gave before
training. No training at all takes part too. Held-out drawings choose, never faces.
"""

from functools import partial
from pathlib import Path

import torch
from runtimes import TORCH
from torch import Tensor

from peers._base import Made, Materials, Peer
from peers.float_files import freeze
from qface_toolkit.methods.quantface import Options, search
from qface_toolkit.models import FloatModel
from qface_toolkit.sources import find_set, load_crops

HELD_OUT, HELD_OUT_SEED = 256, 11


def _inputs(model: FloatModel, count: int, seed: int | None) -> Tensor:
    return torch.from_numpy(model.spec.preprocess(load_crops(find_set("drawings").open(count=count, seed=seed))))


def best_of_grid(materials: Materials, folder: Path, bits: int) -> Made:
    """Return the student of the grid that is nearest to the float network on held-out drawings."""
    effort, model = materials.effort, materials.model
    torch.set_num_threads(materials.threads)
    options = Options(
        weight_bits=bits,
        activation_bits=bits,
        steps=max(effort.steps, default=0),
        batch_size=effort.batch,
        rates=effort.rates,
        calibration_images=effort.calibration,
    )
    learnt, held_out = _inputs(model, effort.pool, None), _inputs(model, min(HELD_OUT, effort.pool), HELD_OUT_SEED)
    found = search(model.network, learnt, held_out, options, seed=0, progress=lambda done, total: None)
    for look in found.trace:
        print(f"  {bits} bits: {look}", flush=True)
    probe = torch.zeros(1, 3, *model.spec.input_size)
    file = freeze(found.student, probe, folder / "simulation.ts")
    return Made((file,), TORCH, simulation=True, trace=list(found.trace))


PEERS = tuple(
    Peer(f"QuantFace's rule, w{bits}a{bits}", "QuantFace", "drawings", partial(best_of_grid, bits=bits))
    for bits in (8, 6)
)
