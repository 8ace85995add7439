"""Weights that a network makes anew in each run, by pruning or a norm, as the plain parameters that they come to."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm

_REMOVERS: dict[str, Any] = {
    "WeightNorm": remove_weight_norm,
    "SpectralNorm": remove_spectral_norm,
    "BasePruningMethod": prune.remove,
}
"""What torch hangs before a module's forward to make its weight -> what puts the weight in its place."""


def with_plain_weights(network: nn.Module) -> tuple[nn.Module, list[str]]:
    """Return a copy whose weights are parameters, and the names of what made them; the network if nothing did."""
    made = sorted({type(maker).__name__ for module in network.modules() for maker in _makers(module)})
    if not made:
        return network, []
    with torch.no_grad():
        for module in network.modules():
            for hook, _ in _hooks(module):
                hook(module, None)  # leaves a weight without a history, which alone can be copied
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        _make_plain(module)
    return network, made


def _makers(module: nn.Module) -> list[object]:
    lists: Any = module.parametrizations if parametrize.is_parametrized(module) else {}
    return [*(hook for hook, _ in _hooks(module)), *(maker for makers in lists.values() for maker in makers)]


def _hooks(module: nn.Module) -> Iterator[tuple[Any, Any]]:
    """Yield each hook that makes a weight, and what removes it."""
    for hook in list(module._forward_pre_hooks.values()):
        kinds = (kind.__name__ for kind in type(hook).__mro__ if kind.__module__.startswith("torch.nn.utils"))
        remover = next((_REMOVERS[kind] for kind in kinds if kind in _REMOVERS), None)
        if remover is not None:
            yield hook, remover


def _make_plain(module: nn.Module) -> None:
    for hook, remover in _hooks(module):
        remover(module, getattr(hook, "_tensor_name", getattr(hook, "name", "weight")))
    if parametrize.is_parametrized(module):
        lists: Any = module.parametrizations
        values = {name: getattr(module, name).detach() for name in lists}
        del module.parametrizations
        # torch's own removal takes the weight off the class, which the network that was copied has too.
        module.__class__ = type(module).__bases__[0]
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value))
