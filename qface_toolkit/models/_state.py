"""Turn whatever a training program saved into one flat state dict: float32, finite, keys as the network has them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models._wrapping import bare_keys, narrowed, unwrap

_HEAD = re.compile(
    r"(head|heads|classifier|classification|logits|arcface|arc_?margin|cosface|adaface|magface|margin\w*|softmax\w*|"
    r"metric\w*|product|loss\w*|criterion|fc_?out|final|class_centers?|prototypes|kernel)(\.|$)",
    re.IGNORECASE,
)


_PERHAPS_HEAD = re.compile(r"(fc|cls|output|last_linear|weight)(\.|$)", re.IGNORECASE)
"""What a classifier is called where its shape must tell it from a layer of the backbone."""

_OUTSIDE = "outside: "
"""Stands before a key of what lies beside the backbone and is called as a part of it is."""


@dataclass(frozen=True)
class State:
    """A flat state dict and what was done to get it; `where` names the file for messages."""

    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...]
    where: str

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor."""
        return {key: tuple(tensor.shape) for key, tensor in self.tensors.items()}


def flatten_state(loaded: object, *, where: str, size_bytes: int) -> State:
    """Find the state dict in what a file of `size_bytes` held, and strip what wrappers wrote before its keys.

    Raises:
        CheckpointError: if there is no state dict, or something in it is not a tensor that the file has bytes for.
    """
    found, said = unwrap(loaded, where)
    tensors = _tensors_only(found, where)
    _check_sizes(tensors, where, size_bytes)
    tensors, stripped = bare_keys(tensors, where)
    return State(tensors, (*said, *stripped), where)


def under_one_word(state: State) -> Iterator[State]:
    """Yield what the state is if all it needs stands under one word that most of its keys begin with.

    What stands beside it stays under its own keys, so that nothing is left out unseen, unless it is the same network
    once more: a moving average, a teacher.
    """
    for word, inside, others in narrowed(state.tensors):
        copies = sorted({other.partition(".")[0] for other in others if other.partition(".")[2] in inside})
        beside = {key: state.tensors[key] for key in others if key.partition(".")[0] not in copies}
        clash = {f"{_OUTSIDE}{key}" if key in inside else key: tensor for key, tensor in beside.items()}
        notes = [f"took the weights under {word!r}"]
        notes += [f"left out the same network under {', '.join(copies)}"] if copies else []
        yield State({**inside, **clash}, (*state.notes, *notes), state.where)


def drop_heads(state: State, unexpected: tuple[str, ...], embedding_size: int) -> State:
    """Drop those of the unexpected tensors that are a classifier's: by name, or a matrix over embeddings."""
    heads = [key for key in unexpected if _is_head(key, state.tensors[key], embedding_size)]
    if not heads:
        return state
    listed = ", ".join(f"{key} {list(state.tensors[key].shape)}" for key in heads[:6])
    more = "" if len(heads) <= 6 else f" and {len(heads) - 6} more"
    kept = {key: tensor for key, tensor in state.tensors.items() if key not in heads}
    return State(kept, (*state.notes, f"dropped the classifier head: {listed}{more}"), state.where)


def to_float32(state: State) -> State:
    """Copy every tensor into memory of its own, floating point as float32.

    Raises:
        CheckpointError: naming the tensors that are not floating point, not finite, or negative variances.
    """
    whole = [key for key, tensor in state.tensors.items() if not (_is_counter(key) or tensor.is_floating_point())]
    if whole:
        raise _named("the checkpoint holds integer weights, as a quantized network does", whole, state.where)
    kinds = {str(t.dtype).removeprefix("torch.") for key, t in state.tensors.items() if not _is_counter(key)}
    tensors = {key: _copied(key, tensor) for key, tensor in state.tensors.items()}
    broken = [key for key, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise _named("the checkpoint holds weights that are NaN or infinite", broken, state.where)
    negative = [key for key, tensor in tensors.items() if key.endswith("running_var") and bool((tensor < 0).any())]
    if negative:
        raise _named("the checkpoint holds negative variances", negative, state.where)
    converted = sorted(kinds - {"float32"})
    notes = [f"converted {kind} weights to float32" for kind in converted]
    if any(_is_counter(key) and tensor.is_floating_point() for key, tensor in state.tensors.items()):
        notes.append("made whole numbers of BatchNorm's counters")
    notes = [*state.notes, *notes]
    return State(tensors, tuple(notes), state.where)


def _tensors_only(found: Mapping[object, object], where: str) -> dict[str, Tensor]:
    tensors = {key: value for key, value in found.items() if isinstance(key, str) and _is_plain(value)}
    others = [f"{str(key)[:80]} ({type(value).__name__})" for key, value in found.items() if key not in tensors]
    if others:
        raise _named("the state dict holds entries that are not plain tensors", others, where)
    return {key: value for key, value in tensors.items() if isinstance(value, Tensor)}


def _is_plain(value: object) -> bool:
    if not isinstance(value, Tensor) or value.is_quantized:
        return False
    return value.layout is torch.strided and value.device.type == "cpu" and not value.is_complex()


def _check_sizes(tensors: Mapping[str, Tensor], where: str, size_bytes: int) -> None:
    """Refuse tensors that show the same few bytes again and again: copying them could fill the memory."""
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > size_bytes:
        raise CheckpointError(
            f"the tensors come to {claimed} bytes, the file has only {size_bytes}",
            where=where,
            fix="save every tensor with memory of its own (tensor.clone())",
        )
    empty = [key for key, tensor in tensors.items() if tensor.numel() == 0]
    if empty:
        raise _named("the state dict holds empty tensors", empty, where)


def _is_head(key: str, tensor: Tensor, embedding_size: int) -> bool:
    name = key.removeprefix(_OUTSIDE)
    if _HEAD.match(name):
        return True
    over_embeddings = tensor.dim() == 2 and embedding_size in tensor.shape
    # A square matrix over embeddings may be the last layer of the backbone as well.
    square = tuple(tensor.shape) == (embedding_size, embedding_size)
    return bool(_PERHAPS_HEAD.match(name)) and over_embeddings and (name == "weight" or not square)


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def _copied(key: str, tensor: Tensor) -> Tensor:
    dtype = torch.int64 if _is_counter(key) else torch.float32
    if _is_counter(key) and tensor.is_floating_point():
        # Halved counters above 65504 are infinite; nothing at inference reads them.
        tensor = tensor.float().nan_to_num(0, 0, 0)
    return tensor.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)


def _named(what: str, keys: list[str], where: str) -> CheckpointError:
    more = "" if len(keys) <= 12 else f" and {len(keys) - 12} more"
    return CheckpointError(
        f"{what}: {', '.join(key[:120] for key in keys[:12])}{more}",
        where=where,
        fix="export the float backbone's state dict again from the program that trained it",
    )
