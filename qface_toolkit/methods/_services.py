"""What single methods ask for beyond what every one is given; a job makes those that its steps ask for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import fx

from qface_toolkit.datasets import MemoryData
from qface_toolkit.methods._base import Gift, Inputs
from qface_toolkit.models import FloatModel
from qface_toolkit.quantize.forms import FormTables
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import Form
from qface_toolkit.training.course import Keeper


@dataclass(frozen=True)
class Forms:
    """The ONNX form that every PReLU shall have, or "auto" to choose by `tables` (None: the package's own)."""

    prelu: Form | Literal["auto"] = "auto"
    tables: FormTables | None = None


@dataclass(frozen=True)
class Foreseen:
    """The microseconds that the first file would take for each operation of a canonical network, by its tensor."""

    of: Callable[[fx.GraphModule], Mapping[str, float]]


@dataclass(frozen=True)
class Reference:
    """The model as it came, before any step changed its weights: embeddings [N, D] of `Inputs`, and its network."""

    embed: Callable[[Inputs], Inputs]
    network: fx.GraphModule | None = None


@dataclass(frozen=True)
class Crops:
    """The calibration images as they are before a network's preprocessing."""

    data: MemoryData


@dataclass(frozen=True)
class Shelf:
    """Where a step that is long keeps how far it is, for a job that is resumed."""

    keeper: Keeper


@dataclass(frozen=True)
class Source:
    """The float model as it came: its own network, which is not in canonical form."""

    model: FloatModel


@dataclass(frozen=True)
class FileSizes:
    """The bytes of the file that a model becomes, of which there is a budget, and those of float.onnx."""

    of: Callable[[QuantizedModel], int]
    float_bytes: int


@dataclass(frozen=True)
class Record:
    """Keeps plain values that a step has to tell the report about what it gave."""

    keep: Callable[[Gift, Mapping[str, Any]], None]
