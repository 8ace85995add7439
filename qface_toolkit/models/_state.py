"""Turn whatever a training program saved into one flat state dict: float32, finite, keys as the network has them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from qface_toolkit.errors import CheckpointError

_WRAPPERS = (
    "state_dict_backbone",
    "net_state_dict",
    "model_state_dict",
    "state_dict",
    "backbone",
    "model",
    "network",
    "net",
    "params",
    "weights",
)
"""Where training programs put the backbone inside what they save; the most specific name first."""

_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "network.", "net.", "encoder.")
"""What DataParallel, torch.compile, Lightning and wrapper modules write before every key."""

_HEAD = re.compile(
    r"(head|heads|classifier|classification|logits|arcface|arc_?margin|cosface|adaface|magface|margin\w*|softmax\w*|"
    r"metric\w*|product|loss\w*|criterion|fc_?out|final|class_centers?|prototypes|kernel)(\.|$)",
    re.IGNORECASE,
)


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
    found, path, left_out = _unwrap(loaded, where)
    tensors = _tensors_only(found, where)
    _check_sizes(tensors, where, size_bytes)
    tensors, prefixes = _strip(tensors, where)
    notes = [f"took the state dict from the key {path!r}"] if path else []
    notes += [f"left out the weights beside it: {', '.join(left_out)}"] if left_out else []
    notes += [f"stripped {prefix!r} from the keys" for prefix in prefixes]
    return State(tensors, tuple(notes), where)


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
    whole = [key for key, tensor in state.tensors.items() if _is_counter(key) == tensor.dtype.is_floating_point]
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
    notes = (*state.notes, *(f"converted {kind} weights to float32" for kind in converted))
    return State(tensors, notes, state.where)


def _unwrap(loaded: object, where: str) -> tuple[Mapping[object, object], str, list[str]]:
    """Return the state dict, the keys that lead to it, and the entries on the way that hold other weights."""
    path: list[str] = []
    left_out: list[str] = []
    while isinstance(loaded, Mapping) and not any(isinstance(value, Tensor) for value in loaded.values()):
        wrapper = next((key for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
        if wrapper is None or len(path) == 4:
            break
        left_out += [str(key)[:80] for key, value in loaded.items() if key != wrapper and _holds_tensors(value)]
        loaded = loaded[wrapper]
        path.append(wrapper)
    if isinstance(loaded, Mapping) and any(isinstance(value, Tensor) for value in loaded.values()):
        return loaded, ".".join(path), left_out
    raise CheckpointError(
        f"the checkpoint holds no state dict: {_describe(loaded)}",
        where=where,
        fix="save the backbone's weights: torch.save(model.state_dict(), 'weights.pth')",
    )


def _holds_tensors(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(one, Tensor) for one in value.values())


def _describe(loaded: object) -> str:
    if not isinstance(loaded, Mapping):
        return f"its content is of type {type(loaded).__name__}"
    keys = ", ".join(str(key)[:40] for key in list(loaded)[:8])
    return f"its keys are {keys}" if keys else "it is empty"


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


def _strip(tensors: dict[str, Tensor], where: str) -> tuple[dict[str, Tensor], list[str]]:
    stripped: list[str] = []
    while prefix := next((known for known in _PREFIXES if any(key.startswith(known) for key in tensors)), None):
        shorter = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
        if len(shorter) < len(tensors):
            twice = [key for key in tensors if key.startswith(prefix) and key.removeprefix(prefix) in tensors]
            raise _named(f"the same weights stand there with and without {prefix!r}", twice, where)
        tensors = shorter
        stripped.append(prefix)
    return tensors, stripped


def _is_head(key: str, tensor: Tensor, embedding_size: int) -> bool:
    over_embeddings = tensor.dim() == 2 and embedding_size in tensor.shape
    return bool(_HEAD.match(key)) or (key == "weight" and over_embeddings)


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def _copied(key: str, tensor: Tensor) -> Tensor:
    dtype = torch.int64 if _is_counter(key) else torch.float32
    return tensor.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)


def _named(what: str, keys: list[str], where: str) -> CheckpointError:
    more = "" if len(keys) <= 12 else f" and {len(keys) - 12} more"
    return CheckpointError(
        f"{what}: {', '.join(key[:120] for key in keys[:12])}{more}",
        where=where,
        fix="export the float backbone's state dict again from the program that trained it",
    )
