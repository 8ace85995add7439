"""torch.ao's FX graph mode with nothing changed: what its tutorial gives for an x86 processor."""

import copy
import warnings
from pathlib import Path

import torch
from runtimes import TORCH

from peers._base import Made, Materials, Peer
from peers.float_files import freeze

BATCH = 16


def quantize(materials: Materials, folder: Path) -> Made:
    """Calibrate and convert the float network with torch's default mapping for its x86 engine."""
    inputs = torch.from_numpy(materials.model.spec.preprocess(materials.crops))
    torch.backends.quantized.engine = "x86"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        from torch.ao.quantization import get_default_qconfig_mapping
        from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

        network = copy.deepcopy(materials.model.network).eval()
        prepared = prepare_fx(network, get_default_qconfig_mapping("x86"), (inputs[:1],))
        for part in inputs.split(BATCH):
            prepared(part)
        converted = convert_fx(prepared)
    return Made((freeze(converted, inputs[:1], folder / "torch-fx.ts"),), TORCH)


PEERS = tuple(Peer("torch.ao FX, defaults", "torch.ao", images, quantize) for images in ("drawings", "faces"))
