"""Whether a preprocessing can be meant: one on another scale gives a network that runs and knows nobody.

Training programs say mean and std for pixels from 0 to 1, or as a factor, or inside the network itself; here both are
for pixels from 0 to 255. What cannot be is refused with what was probably meant, before any work.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models._spec import CHECKED, ModelSpec
from qface_toolkit.scale import ON_PURPOSE, Pairs, Reason, how_to_set, of_another_scale, options, said

_SPANS = ((0.5, 12.0), (200.0, 260.0))
"""Between what black and white become: 1 to 4.5 in all trainings known here, or pixels that are only shifted, 255."""
_FAR = 8.0
"""How many times another scale than the published one no training has; the usual ones are within 4.4 of each other."""
_USUAL = ((0.0, 1.0), (0.0, 255.0), (127.5, 127.5))


def check_preprocessing(
    spec: ModelSpec,
    given: Mapping[str, Any],
    *,
    network: nn.Module | None = None,
    expected: Mapping[str, Any] | None = None,
    where: str | None = None,
) -> None:
    """Refuse a mean and std that pixels from 0 to 255 cannot have been trained with, unless `given` says `checked`.

    `expected` is what is known of the network or said by its file, which what is given may replace; `network` is asked
    whether it prepares the image itself.

    Raises:
        CheckpointError: with the values that were probably meant.
    """
    if given.get(CHECKED):
        return
    reason = of_another_scale(spec.mean, spec.std) or _unexpected(spec, expected or {}, given)
    if reason is None and network is not None:
        reason = _prepared_twice(network, spec)
    if reason is not None:
        what, fix = reason
        raise CheckpointError(what, where=where, fix=f"{fix}; {ON_PURPOSE}")


def _unexpected(spec: ModelSpec, expected: Mapping[str, Any], given: Mapping[str, Any]) -> Reason | None:
    if not {"mean", "std"} <= expected.keys() or not {"mean", "std"} & given.keys():
        return None
    known = spec.override({"mean": expected["mean"], "std": expected["std"]})
    if all(1 / _FAR < mine / other < _FAR for mine, other in zip(spec.std, known.std, strict=True)):
        return None
    what = (
        f"{said(spec.mean, spec.std)} feed the network values of another size than those that it is known to expect: "
        f"{said(known.mean, known.std)}"
    )
    return what, f"give {how_to_set(list(zip(known.mean, known.std, strict=True)))}, or leave both out"


def _prepared_twice(network: nn.Module, spec: ModelSpec) -> Reason | None:
    seen = _first_layer_sees(network, spec, list(zip(spec.mean, spec.std, strict=True)))
    if seen is None or _is_range(*seen):
        return None
    others = ([one] * spec.channels for one in _USUAL)
    fitting = next((one for one in others if _is_range(*(_first_layer_sees(network, spec, one) or seen))), None)
    black, white = seen
    what = (
        f"the network prepares the image itself: beside {said(spec.mean, spec.std)} black and white reach its first "
        f"layer as {black.mean():.4g} and {white.mean():.4g}"
    )
    if fitting is None:
        return what, "give what the network's authors feed it"
    plain = ", plain pixels from 0 to 255," if fitting[0] == _USUAL[0] else ""
    return what, f"{how_to_set(fitting)}{plain} was probably meant"


def preprocessing_words(spec: ModelSpec) -> str:
    """Return how a model's images are prepared, in words."""
    return f"{said(spec.mean, spec.std)}, {spec.color}"


def preprocessing_options(spec: ModelSpec) -> str:
    """Return the options of the command line that give a model's preprocessing."""
    return f"{options(spec.mean, spec.std)} --set model.color={spec.color}"


def _is_range(black: Tensor, white: Tensor) -> bool:
    """Tell whether a layer can have been trained on what black and white become: a usual span around or above zero."""
    low, high = torch.minimum(black, white), torch.maximum(black, white)
    span = high - low
    near = (low < 0.1 * span) & (high > 0.1 * span)
    return bool(near.all()) and any(bool(((span > least) & (span < most)).all()) for least, most in _SPANS)


class _Seen(Exception):
    """Ends a run at the first layer, with what reaches it."""

    def __init__(self, tensor: object) -> None:
        super().__init__()
        self.tensor = tensor


def _first_layer_sees(network: nn.Module, spec: ModelSpec, pairs: Pairs) -> tuple[Tensor, Tensor] | None:
    """Return what black and white become until the first layer with weights, flat; None if that is not arithmetic."""
    mean, std = (torch.tensor(column).reshape(-1, 1, 1) for column in zip(*pairs, strict=True))
    images = torch.stack([(torch.full(spec.input_shape, pixel) - mean) / std for pixel in (0.0, 255.0)])
    seen = _at_first_layer(network, images)
    if not isinstance(seen, Tensor) or seen.numel() != images.numel() or torch.equal(seen, images):
        return None
    black, white = seen.reshape(2, -1).float()
    return (black, white) if all(_is_even(one, spec) for one in (black, white)) else None


def _is_even(flat: Tensor, spec: ModelSpec) -> bool:
    """Tell whether each channel of an image of one colour still has one number; what looks at neighbours sees edges."""
    _, counts = np.unique(flat.numpy(), return_counts=True)
    height, width = spec.input_size
    return bool((counts % (height * width) == 0).all())


def _at_first_layer(network: nn.Module, images: Tensor) -> object:
    with _stopping(network), torch.no_grad():
        try:
            network(images)
        except _Seen as seen:
            return seen.tensor
        except (RuntimeError, ValueError, TypeError, IndexError):
            return None
    return None


@contextmanager
def _stopping(network: nn.Module) -> Iterator[None]:
    """Let the network stop where a layer that has weights begins."""
    layers = [one for one in network.modules() if one is not network and any(True for _ in one.parameters(False))]
    handles: list[RemovableHandle] = [one.register_forward_pre_hook(_stop) for one in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _stop(_layer: nn.Module, arguments: tuple[object, ...]) -> None:
    raise _Seen(arguments[0] if arguments else None)
