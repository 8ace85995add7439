"""The scale of mean and std: they are for pixels from 0 to 255 here, and training programs say them in other ways.

For pixels from 0 to 1, as a factor, or as an offset behind the division: each is a number that runs and ruins. What was
probably meant can be told from the numbers alone, without a network and in no time.
"""

from collections.abc import Sequence

Numbers = Sequence[float]
Pairs = Sequence[tuple[float, float]]
"""The mean and std of each channel."""
Reason = tuple[str, str]
"""What is wrong, and what to do."""

ON_PURPOSE = "if they are right as they are, add --set model.checked=true (in Python checked=True)"
_FACTOR = 1 / 16
"""A std below is a factor: 1/128, 1/255, 0.017; one above, as 0.229, is of pixels from 0 to 1."""
_MOST_STD = 512.0


def of_another_scale(mean: Numbers, std: Numbers) -> Reason | None:
    """Return why no network can have been trained so, and what was probably meant; None if one can.

    Both have one number a channel, and those of `std` are above zero.
    """
    pairs = list(zip(mean, std, strict=True))
    if _is_usable(pairs):
        return None
    meant = [_meant(*pair) for pair in pairs]
    low, high = min((0 - mean) / std for mean, std in pairs), max((255 - mean) / std for mean, std in pairs)
    what = (
        f"{said(mean, std)}: pixels are 0 to 255 here and the network is fed (pixel - mean) / std, which would be "
        f"{low:.4g} to {high:.4g}"
    )
    if not _is_usable(meant):
        return what, "give those of the training, for pixels from 0 to 255; most are mean 127.5 and std 127.5 or 128"
    return what, f"{how_to_set(meant)} was probably meant"


def said(mean: Numbers, std: Numbers) -> str:
    """Return mean and std in words."""
    return f"mean {_number(mean)} and std {_number(std)}"


def how_to_set(pairs: Pairs) -> str:
    """Return values in words and as the options that give them."""
    mean, std = (tuple(column) for column in zip(*pairs, strict=True))
    return f"mean {_number(mean)}, std {_number(std)} ({options(mean, std)})"


def options(mean: Numbers, std: Numbers) -> str:
    """Return the options of the command line that give mean and std."""
    settings = (f"model.mean={_number(mean)}", f"model.std={_number(std)}")
    return " ".join(f"--set '{one}'" if "[" in one else f"--set {one}" for one in settings)


def _number(values: Numbers) -> str:
    texts = [f"{value:.6g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


def _is_usable(pairs: Pairs) -> bool:
    means, stds = zip(*pairs, strict=True)
    centred = max(means) == 0 or 1 < max(means) <= 255
    return bool(min(stds) >= 1 and max(stds) <= _MOST_STD and min(means) >= 0 and centred)


def _meant(mean: float, std: float) -> tuple[float, float]:
    """Return the mean and std of pixels 0..255 that these numbers probably stand for."""
    offset = abs(mean)
    if std < _FACTOR:
        scale = 1 / std
    elif std < 1 or (std == 1 and 0 < offset <= 1):
        scale = std * 255
    else:
        scale = std
    if 0 < offset < 1:
        return offset * 255, scale
    return (scale if offset == 1 else offset), scale
