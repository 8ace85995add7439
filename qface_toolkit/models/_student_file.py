"""A student as one safetensors file: its network, and as texts in the head whatever else `load_model` must know."""

import json
from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import Tensor

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models._architecture import ToldPlan
from qface_toolkit.models._match import match
from qface_toolkit.models._model import FloatModel
from qface_toolkit.models._stated import LONGEST_FACT, texts_beside_weights
from qface_toolkit.untrusted.reading import printable

_LENGTH_BYTES = 8
_ALIGNMENT = 8


def student_metadata(model: FloatModel) -> dict[str, str]:
    """Return every text that must stand in the head of a student's safetensors file, by its key.

    `license` and `origin` as they are; qface.mean, qface.std and qface.input_size as JSON; qface.color and qface.crop;
    and qface.genotype, JSON of the keys normal and reduce, where a PocketNet has other cells than the published ones.
    """
    plan = getattr(model.network, "plan", None)
    return texts_beside_weights(model.spec) | (plan.texts if isinstance(plan, ToldPlan) else {})


def student_bytes(model: FloatModel, origin: str) -> bytes:
    """Return a student as a safetensors file, the same bytes for the same model in every process.

    `origin` says where the weights are from, in place of what the model's facts say. Each text of `student_metadata`
    stands in the head under its own key, sorted: safetensors would write them in another order each time.

    Raises:
        CheckpointError: if the network is of no architecture that weights alone can bring back.
    """
    check_writable(model, where=model.spec.name)
    tensors = {key: _plain(tensor) for key, tensor in model.network.state_dict().items()}
    return _with_texts(save(tensors), student_metadata(model) | {"origin": printable(origin, LONGEST_FACT)})


def check_writable(model: FloatModel, *, where: str) -> None:
    """Check that a network can be brought back from its weights and metadata.

    Raises:
        CheckpointError: if it is of no architecture that is known here, as the network of an ONNX file is.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in model.network.state_dict().items()}
    found = match(shapes, texts=student_metadata(model))
    if found.difference:
        what = (
            "the network is of no architecture known here by its weights' names, so they alone could not be read back"
        )
        fix = "give a checkpoint of a supported network (`qface list models`), which an ONNX file is not"
        raise CheckpointError(what, where=where, fix=fix)


def _plain(tensor: Tensor) -> Tensor:
    """Return a copy as files hold it: in main memory, float32, one plane of the image after the other."""
    kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", kind).clone(memory_format=torch.contiguous_format)


def _with_texts(data: bytes, texts: Mapping[str, str]) -> bytes:
    """Return a safetensors file with texts in its head: its length, JSON padded by spaces, then the weights."""
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    tensors = json.loads(data[_LENGTH_BYTES:end])
    head = json.dumps({"__metadata__": dict(sorted(texts.items())), **tensors}, separators=(",", ":")).encode()
    head += b" " * (-len(head) % _ALIGNMENT)
    return len(head).to_bytes(_LENGTH_BYTES, "little") + head + data[end:]
