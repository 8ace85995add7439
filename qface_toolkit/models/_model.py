"""A float network together with its facts: what every later step takes, wherever the network came from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from qface_toolkit.errors import CheckpointError
from qface_toolkit.framing import CropName
from qface_toolkit.models._given import embedding_alone, line_of, plain
from qface_toolkit.models._plausible import check_preprocessing
from qface_toolkit.models._spec import CHECKED, SIDES, Color, ModelSpec, PerChannel, is_size


@dataclass(frozen=True)
class FloatModel:
    """A float32 network in eval mode, its facts, the SHA-256 of where it came from, and what loading it involved.

    `warnings` are those of the notes that whoever uses the model must be told at once.
    """

    network: nn.Module
    spec: ModelSpec
    source_sha256: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def with_facts(self, given: Mapping[str, Any]) -> "FloatModel":
        """Return the model with some facts replaced; see `ModelSpec.override`.

        Raises:
            RecipeError: listing every mistake.
            CheckpointError: if the network does not take such images, or mean and std are on another scale, unless
                `checked` is given, too.
        """
        spec = self.spec.override(given)
        if spec.input_shape != self.spec.input_shape:
            check_runs(self.network, spec, where=self.spec.name)
        if given:
            check_preprocessing(spec, given, network=self.network, where=self.spec.name)
        return replace(self, spec=spec)


def from_module(
    network: nn.Module,
    *,
    input_size: tuple[int, int] = (112, 112),
    embedding_size: int | None = None,
    mean: float | PerChannel = 127.5,
    std: float | PerChannel = 127.5,
    color: Color = "rgb",
    crop: CropName = "arcface",
    name: str | None = None,
    checked: bool = False,
) -> FloatModel:
    """Take any network that maps images [N, C, height, width] to embeddings [N, D]; it is put into eval mode.

    C is three, and one where `color` is "gray". `crop` says where a face stands in those images: on ArcFace's template
    scaled to the longer side ("arcface"), as "facenet" or "dlib" cut it out, or as the whole aligned crop is ("none").

    A network on a GPU or of another type than float32 stays as it is: a copy in main memory is taken, since all that
    follows runs on the CPU in float32. Wrappers such as DataParallel and torch.compile are taken off. Of several
    outputs the only one that can be an embedding is taken. The notes say so.

    `mean` and `std` are on the scale 0..255, one number or one a channel in the order of `color`. `embedding_size` is
    found by running the network once on zeros; given, it is checked. `checked` says that an unusual `mean` or `std` is
    right.

    Raises:
        CheckpointError: if the network does not return one embedding an image, or one of another size, or if its
            weights hold no data, or it is a TorchScript program or quantized already, or the input's height or width
            is out of bounds, or if mean and std are on another scale.
        RecipeError: if mean, std, color or crop are not usable.
    """
    _check_size(input_size)
    given, notes = plain(network)
    spec = ModelSpec(name=name or type(given).__name__, input_size=input_size, embedding_size=0)
    spec = spec.override({"mean": mean, "std": std, "color": color, "crop": crop})
    embedder, size, chosen = embedding_alone(given, _run_on_zeros(given, spec))
    if embedding_size not in (None, size):
        raise CheckpointError(
            f"the network returns embeddings of {size} numbers, not {embedding_size}", fix=f"give embedding_size={size}"
        )
    check_preprocessing(spec, {CHECKED: checked}, network=embedder)
    spec = replace(spec, embedding_size=size)
    return FloatModel(embedder, spec, weights_sha256(embedder), ("given as an nn.Module", *notes, *chosen))


def _check_size(input_size: object) -> None:
    if not is_size(input_size):
        raise CheckpointError(
            f"input_size {input_size!r} is not (height, width) of {SIDES} pixels each",
            fix="give two whole numbers, or let the network's first layer resize the picture",
        )


def weights_sha256(network: nn.Module) -> str:
    """Return the SHA-256 over the keys, types, shapes and bytes of the network's state dict."""
    digest = hashlib.sha256()
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_runs(network: nn.Module, spec: ModelSpec, *, where: str) -> None:
    """Run a network on inputs without numbers, which costs nothing, and see that its facts' shape suits it.

    Raises:
        CheckpointError: if it does not take such images.
    """
    bare = {key: torch.empty_like(tensor, device="meta") for key, tensor in network.state_dict().items()}
    try:
        with torch.no_grad():
            images = torch.empty(2, *spec.input_shape, device="meta")
            found = torch.func.functional_call(network, bare, (images,))
        if tuple(found.shape) != (2, spec.embedding_size):
            raise ValueError(f"two of them give {list(found.shape)}, not two embeddings of {spec.embedding_size}")
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"the network cannot take images {list(spec.input_shape)}: {error}",
            where=where,
            fix="leave out model.input_size and model.color=gray, or give those that it was trained with",
        ) from error


def _run_on_zeros(network: nn.Module, spec: ModelSpec) -> object:
    try:
        with torch.no_grad():
            returned: object = network(torch.zeros(2, *spec.input_shape))
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        raise CheckpointError(
            f"the network cannot take a float image batch {[2, *spec.input_shape]}: {error}",
            where=line_of(error),
            fix='give its input_size, color="gray" if it has one channel, and a network whose only input is the image',
        ) from error
    return returned
