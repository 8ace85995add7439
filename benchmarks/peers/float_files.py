"""The float model itself, in every runtime: what anybody has before compressing anything."""

import shutil
import warnings
from functools import partial
from pathlib import Path

import torch
from runtimes import ONNXRUNTIME, OPENVINO, OPENVINO_BF16, TORCH

from peers._base import Made, Materials, Peer

FLOAT, FAST = "float.onnx", "float.fast.onnx"


def as_archive(materials: Materials, folder: Path) -> Made:
    """Trace and freeze the float network for torch."""
    network, spec = materials.model.network.eval(), materials.model.spec
    return Made((freeze(network, torch.zeros(1, 3, *spec.input_size), folder / "float.ts"),), TORCH)


def freeze(network: torch.nn.Module, probe: torch.Tensor, file: Path) -> Path:
    """Write a network as a frozen TorchScript archive and return its path."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.freeze(torch.jit.trace(network, probe, check_trace=False).eval())
        torch.jit.save(traced, str(file))
    return file


def as_file(materials: Materials, folder: Path, name: str, runtime: str) -> Made:
    """Take one of the float files that compressing writes."""
    return Made((Path(shutil.copy(materials.float_file.with_name(name), folder)),), runtime)


PEERS = (
    Peer("float, torch", "float", "none", as_archive),
    Peer("float.onnx", "float", "none", partial(as_file, name=FLOAT, runtime=ONNXRUNTIME)),
    Peer("float.fast.onnx", "float", "none", partial(as_file, name=FAST, runtime=ONNXRUNTIME)),
    Peer("float.onnx, OpenVINO f32", "float", "none", partial(as_file, name=FLOAT, runtime=OPENVINO)),
    Peer("float.onnx, OpenVINO bf16", "float", "none", partial(as_file, name=FLOAT, runtime=OPENVINO_BF16)),
)
