"""What a report may lose against its baseline before a check fails: defaults, a YAML file, and `--set`, in this order.

A budget of null is not checked. The defaults are what the same commit never exceeds by itself: bytes, operators and
embeddings hardly depend on the day; for the latency see benchmarks/false_alarms.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qface_toolkit.errors import RecipeError
from qface_toolkit.untrusted.settings import apply_setting, worded
from qface_toolkit.untrusted.yaml import read_text, read_yaml

Share = Annotated[float, Field(ge=0, le=10)]
Fall = Annotated[float, Field(ge=0, le=1)]
More = Annotated[int, Field(ge=0, le=100_000)]
_OUTLINE = "write it as qface's .github/actions/qface-check/budgets.yaml is, or see `qface check --help`"


class Budgets(BaseModel):
    """How much worse each figure of an artifact may be than the baseline's; null: not checked.

    Shares are relative (0.005 is half a percent), falls and counts absolute. `latency_growth` is that of the time of
    the int8 file divided by that of the float model, measured in the same run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    version: Literal[1] = 1
    size_bytes_growth: Share | None = 0.005
    integer_convolutions_fewer: More | None = 0
    integer_linear_layers_fewer: More | None = 0
    float_operators_more: More | None = 0
    operators_more: More | None = 0
    cosine_mean_fall: Fall | None = 0.0005
    cosine_p1_fall: Fall | None = 0.0005
    cosine_min_fall: Fall | None = None
    accuracy_fall: Fall | None = 0.002
    latency_growth: Share | None = 0.07


def read_budgets(file: Path | None = None, sets: Sequence[str] = ()) -> Budgets:
    """Return the defaults, changed by a YAML file and then by KEY=VALUE strings.

    Raises:
        RecipeError: if the file cannot be read, or listing every mistake in it and in the settings.
    """
    values = _plain(file) if file else {}
    mistakes = [mistake for text in sets for mistake in apply_setting(values, text)]
    try:
        found = Budgets.model_validate(values)
    except ValidationError as error:
        mistakes += worded(error, Budgets)
    if mistakes:
        what = "\n".join(("the budgets hold mistakes:", *(f"  {mistake}" for mistake in mistakes)))
        raise RecipeError(what, where=str(file) if file else None, fix=_OUTLINE)
    return found


def _plain(file: Path) -> dict[str, Any]:
    values = read_yaml(read_text(file), where=str(file))
    if values is None:
        return {}
    if not isinstance(values, dict):
        what = "budgets are a list of keys with values, such as latency_growth: 0.1"
        raise RecipeError(what, where=str(file), fix=_OUTLINE)
    return values
