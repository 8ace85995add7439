"""Find the backbone's weights in what a training program saved, and its keys among what wrappers wrote into them."""

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

from qface_toolkit.errors import CheckpointError

_WRAPPERS = (
    "state_dict_backbone",
    "net_state_dict",
    "model_state_dict",
    "backbone_state_dict",
    "state_dict",
    "backbone",
    "model",
    "network",
    "net",
    "params",
    "weights",
    "module",
)
"""Where training programs put the backbone inside what they save; the most specific name first."""

_AVERAGES = (
    "state_dict_ema",
    "ema_state_dict",
    "model_ema_state_dict",
    "model_state_dict_ema",
    "model_ema",
    "ema_model",
    "ema",
    "params_ema",
    "teacher_ema",
)
"""Where they put a moving average of it, which is taken if the weights themselves are not there."""

_OF_ARRAYS = "torch.save({key: torch.from_numpy(values) for key, values in weights.items()}, 'weights.pth')"

_DEEPEST = 4

_WRAPPING_MODULES = ("module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module", "_checkpoint_wrapped_module")
"""What DataParallel, torch.compile, FSDP, Fabric and activation checkpointing call the module they hold, anywhere."""

_PREFIXES = ("model.", "backbone.", "network.", "net.", "encoder.")
"""What Lightning and wrapper modules write before every key."""

_COUNTERS = re.compile(r"(^|\.)(total_ops|total_params)$")
"""What thop.profile leaves in every module of a network that it has counted."""

_AVERAGED = "n_averaged"
"""What torch.optim.swa_utils.AveragedModel counts beside the weights."""

_OBSERVED = re.compile(r"(^|\.)(activation_post_process(_\d+)?|weight_fake_quant|_packed_params)(\.|$)")
"""What torch.ao leaves in a network that it prepared for quantization or converted."""


def unwrap(loaded: object, where: str) -> tuple[Mapping[object, object], list[str]]:
    """Return the mapping that holds the weights themselves, and notes on where it was and what stood beside it.

    Raises:
        CheckpointError: if there is none.
    """
    path: list[str] = []
    beside: list[str] = []
    while isinstance(loaded, Mapping) and len(path) < _DEEPEST and (wrapper := _wrapper(loaded)) is not None:
        beside += [str(key)[:80] for key, value in loaded.items() if key != wrapper and _is_weights(key, value)]
        path.append(wrapper)
        loaded = loaded[wrapper]
    if not _holds_tensors(loaded):
        fix = "save the backbone's weights: torch.save(model.state_dict(), 'weights.pth')"
        if _holds_arrays(loaded):
            fix = f"save tensors in place of NumPy's arrays, {_OF_ARRAYS}"
        raise CheckpointError(f"the checkpoint holds no state dict: {_describe(loaded)}", where=where, fix=fix)
    assert isinstance(loaded, Mapping)
    return loaded, list(_notes(path, beside))


def _notes(path: list[str], beside: list[str]) -> Iterator[str]:
    if path:
        average = ", a moving average (EMA)" if any(name in _AVERAGES for name in path) else ""
        yield f"took the state dict from the key {'.'.join(path)!r}{average}"
    averages = [name for name in beside if name in _AVERAGES]
    if averages:
        yield f"took the weights themselves, not their moving average (EMA) beside them: {', '.join(averages)}"
    others = [name for name in beside if name not in _AVERAGES]
    if others:
        yield f"left out the weights beside it: {', '.join(others)}"


def _wrapper(loaded: Mapping[object, object]) -> str | None:
    """Return the key that the weights are under; where none is known, the only one that holds named weights."""
    known = next((key for key in (*_WRAPPERS, *_AVERAGES) if _leads_to_tensors(loaded.get(key))), None)
    if known or any(isinstance(one, Tensor) and one.numel() > 1 for one in loaded.values()):
        return known
    others = [key for key, value in loaded.items() if isinstance(key, str) and _holds_named_tensors(value)]
    return others[0] if len(others) == 1 else None


def _is_weights(key: object, value: object) -> bool:
    return _leads_to_tensors(value) if key in _AVERAGES else isinstance(value, Mapping) and _holds_tensors(value)


def _leads_to_tensors(value: object) -> bool:
    """Tell whether named tensors stand in a mapping or in those inside it, each of which is looked at once."""
    seen: set[int] = set()
    level = [value] if isinstance(value, Mapping) else []
    for _ in range(_DEEPEST):
        if any(_holds_named_tensors(one) for one in level):
            return True
        inside = [one for mapping in level for one in mapping.values() if isinstance(one, Mapping)]
        level = [one for one in {id(one): one for one in inside}.values() if id(one) not in seen]
        seen |= {id(one) for one in level}
    return False


def _holds_named_tensors(value: object) -> bool:
    named = value.items() if isinstance(value, Mapping) else ()
    return any(isinstance(key, str) and isinstance(one, Tensor) for key, one in named)


def _holds_tensors(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(one, Tensor) for one in value.values())


def _holds_arrays(loaded: object) -> bool:
    """Tell whether something stands for arrays, of which nothing is kept."""
    inside = [value for value in loaded.values() if isinstance(value, Mapping)] if isinstance(loaded, Mapping) else []
    held = [loaded, *inside] if isinstance(loaded, Mapping) else []
    return any(type(value).__name__ == "_reconstruct" for mapping in held for value in mapping.values())


def _describe(loaded: object) -> str:
    if not isinstance(loaded, Mapping):
        return f"its content is of type {type(loaded).__name__}"
    keys = ", ".join(str(key)[:40] for key in list(loaded)[:8])
    return f"its keys are {keys}" if keys else "it is empty"


def bare_keys(tensors: Mapping[str, Tensor], where: str) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors without a profiler's counters, under keys without what wrappers wrote into them; and notes.

    Raises:
        CheckpointError: if the network was prepared for quantization, or the same weights stand there twice.
    """
    _refuse_observed(tensors, where)
    notes: list[str] = []
    bare = _without_counters(dict(tensors), notes)
    for name in _WRAPPING_MODULES:
        bare = _without_module(bare, name, notes, where)
    while prefix := next((known for known in _PREFIXES if any(key.startswith(known) for key in bare)), None):
        bare = _without_prefix(bare, prefix, notes, where)
    return bare, notes


def _refuse_observed(tensors: Mapping[str, Tensor], where: str) -> None:
    observed = [key for key in tensors if _OBSERVED.search(key)]
    if observed:
        raise CheckpointError(
            f"the network was prepared for quantization or is quantized already: {observed[0][:120]}",
            where=where,
            fix="give the float checkpoint that it was made from; qface quantizes by itself",
        )
    if any("_flat_param" in key for key in tensors):
        raise CheckpointError(
            "FSDP saved the weights as flat pieces, without their shapes",
            where=where,
            fix="save them whole: FullStateDictConfig of torch.distributed.fsdp, then torch.save(model.state_dict())",
        )


def _without_counters(tensors: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    counters = [key for key in tensors if _COUNTERS.search(key)]
    if counters:
        names = sorted({key.rpartition(".")[2] for key in counters})
        notes.append(f"dropped a profiler's counters: {' and '.join(names)} ({len(counters)} of them)")
    averaged = [key for key in tensors if key.rpartition(".")[2] == _AVERAGED]
    if averaged:
        notes.append(f"dropped the count of averaged weights: {', '.join(averaged[:3])}")
    dropped = {*counters, *averaged}
    return {key: tensor for key, tensor in tensors.items() if key not in dropped}


def _without_module(tensors: dict[str, Tensor], name: str, notes: list[str], where: str) -> dict[str, Tensor]:
    shorter = {key: ".".join(part for part in key.split(".") if part != name) for key in tensors}
    if all(key == short for key, short in shorter.items()):
        return tensors
    prefix = f"{name}."
    notes.append(f"stripped {prefix!r} from the keys")
    return _renamed(tensors, shorter, prefix, where)


def _without_prefix(tensors: dict[str, Tensor], prefix: str, notes: list[str], where: str) -> dict[str, Tensor]:
    """Strip a prefix; where most keys have it, those that would then be there twice belong to something else."""
    notes.append(f"stripped {prefix!r} from the keys")
    inside = [key for key in tensors if key.startswith(prefix)]
    twice = {key.removeprefix(prefix) for key in inside} & tensors.keys()
    if twice and 2 * len(inside) > len(tensors):
        notes.append(f"left out what stands outside {prefix!r}: {', '.join(sorted(twice)[:6])}")
        tensors = {key: tensor for key, tensor in tensors.items() if key not in twice}
    return _renamed(tensors, {key: key.removeprefix(prefix) for key in tensors}, prefix, where)


def _renamed(tensors: dict[str, Tensor], names: Mapping[str, str], what: str, where: str) -> dict[str, Tensor]:
    renamed = {names[key]: tensor for key, tensor in tensors.items()}
    if len(renamed) == len(tensors):
        return renamed
    twice = [key for key in tensors if names[key] != key and names[key] in tensors]
    more = "" if len(twice) <= 12 else f" and {len(twice) - 12} more"
    raise CheckpointError(
        f"the same weights stand there with and without {what!r}: {', '.join(key[:120] for key in twice[:12])}{more}",
        where=where,
        fix="export the float backbone's state dict again from the program that trained it",
    )


def narrowed(keys: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor], list[str]]]:
    """Yield each first word that a third or more of the keys begin with, the tensors under it, and the other keys."""
    groups: dict[str, int] = {}
    for key in keys:
        word = key.partition(".")[0]
        groups[word] = groups.get(word, 0) + 1
    for word, count in groups.items():
        if 3 * count >= len(keys) and count > 1:
            inside = {key.partition(".")[2]: tensor for key, tensor in keys.items() if key.startswith(f"{word}.")}
            yield word, inside, [key for key in keys if not key.startswith(f"{word}.")]
