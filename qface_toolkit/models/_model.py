"""A float network together with its facts: what every later step takes, wherever the network came from."""

import copy
import hashlib
from dataclasses import dataclass

import torch
from torch import nn

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models._spec import CROP_SIZE, Color, ModelSpec, Triple


@dataclass(frozen=True)
class FloatModel:
    """A float32 network in eval mode, its facts, the SHA-256 of where it came from, and what loading it involved."""

    network: nn.Module
    spec: ModelSpec
    source_sha256: str
    notes: tuple[str, ...] = ()


def from_module(
    network: nn.Module,
    *,
    input_size: tuple[int, int] = (112, 112),
    embedding_size: int | None = None,
    mean: float | Triple = 127.5,
    std: float | Triple = 127.5,
    color: Color = "rgb",
    name: str | None = None,
) -> FloatModel:
    """Take any network that maps images [N, 3, height, width] to embeddings [N, D]; it is put into eval mode.

    A network on a GPU stays there as it is: a copy in main memory is taken, since all that follows runs on the CPU.
    `mean` and `std` are on the scale 0..255, one number or one a channel in the order of `color`. `embedding_size` is
    found by running the network once on zeros; given, it is checked.

    Raises:
        CheckpointError: if the network does not return one embedding an image, or one of another size, or eats more
            than the aligned crop of 112x112 pixels that calibration images are, or if its weights hold no data.
        RecipeError: if mean, std or color are not usable.
    """
    _check_size(input_size)
    network = _on_cpu(network).eval()
    size = _run_on_zeros(network, input_size)
    if embedding_size not in (None, size):
        raise CheckpointError(
            f"the network returns embeddings of {size} numbers, not {embedding_size}", fix=f"give embedding_size={size}"
        )
    spec = ModelSpec(name=name or type(network).__name__, input_size=input_size, embedding_size=size)
    spec = spec.override({"mean": mean, "std": std, "color": color})
    return FloatModel(network, spec, weights_sha256(network), ("given as an nn.Module",))


def _on_cpu(network: nn.Module) -> nn.Module:
    if {tensor.device.type for tensor in (*network.parameters(), *network.buffers())} <= {"cpu"}:
        return network
    try:
        return copy.deepcopy(network).cpu()
    except RuntimeError as error:
        raise CheckpointError(
            f"the network's weights cannot be copied into main memory: {error}", fix="load its weights first"
        ) from error


def _check_size(input_size: object) -> None:
    sizes = input_size if isinstance(input_size, list | tuple) else ()
    if len(sizes) != 2 or not all(isinstance(size, int) and 0 < size <= CROP_SIZE for size in sizes):
        raise CheckpointError(
            f"input_size {input_size!r} is not (height, width) of at most {CROP_SIZE} pixels each, the aligned crop",
            fix="give two whole numbers, or let the network's first layer resize the crop",
        )


def weights_sha256(network: nn.Module) -> str:
    """Return the SHA-256 over the keys, types, shapes and bytes of the network's state dict."""
    digest = hashlib.sha256()
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _run_on_zeros(network: nn.Module, input_size: tuple[int, int]) -> int:
    try:
        with torch.no_grad():
            embeddings = network(torch.zeros(2, 3, *input_size))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"the network cannot take a float image batch [2, 3, {input_size[0]}, {input_size[1]}]: {error}",
            fix="give its input_size, and a network whose only input is the image",
        ) from error
    if not isinstance(embeddings, torch.Tensor) or embeddings.dim() != 2 or embeddings.shape[0] != 2:
        got = list(embeddings.shape) if isinstance(embeddings, torch.Tensor) else type(embeddings).__name__
        raise CheckpointError(
            f"the network returns {got} for two images, not one embedding [D] each",
            fix="wrap it in an nn.Module that returns the embedding alone, [N, D]",
        )
    if not bool(torch.isfinite(embeddings).all()):
        raise CheckpointError(
            "the network returns NaN or infinity for an image of zeros", fix="check its weights: they look damaged"
        )
    return int(embeddings.shape[1])
