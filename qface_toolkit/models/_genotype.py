"""The two cells of a PocketNet as data: the published ones, and those that a stranger's text says.

A genotype is four nodes, each the sum of two operations on what came before. The schema holds whatever a text says
against that, so that a network is built of nothing else.
"""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models._spec import LONGEST_EMBEDDING, SHORTEST_EMBEDDING
from qface_toolkit.untrusted.settings import closest, worded

Step = tuple[str, int]
Node = tuple[Step, Step]
Genotype = tuple[Node, ...]
"""For each node its two operations, as (name, input); inputs 0 and 1 are the cells before, 2.. are earlier nodes."""

NORMAL: Genotype = (
    (("dw_conv_3x3", 0), ("dw_conv_1x1", 1)),
    (("dw_conv_3x3", 2), ("dw_conv_5x5", 0)),
    (("dw_conv_3x3", 3), ("dw_conv_3x3", 0)),
    (("dw_conv_3x3", 4), ("skip_connect", 0)),
)
REDUCE: Genotype = (
    (("dw_conv_3x3", 1), ("dw_conv_7x7", 0)),
    (("skip_connect", 2), ("dw_conv_5x5", 1)),
    (("max_pool_3x3", 0), ("skip_connect", 2)),
    (("max_pool_3x3", 0), ("max_pool_3x3", 1)),
)

KERNELS = (1, 3, 5, 7)
OPERATIONS = (*(f"dw_conv_{size}x{size}" for size in KERNELS), "max_pool_3x3", "avg_pool_3x3", "skip_connect")

GENOTYPE_KEY = "qface.genotype"
"""What a file's metadata call the text that `genotype_text` gives."""
_LONGEST_TEXT = 2000


def _known(name: str) -> str:
    if name not in OPERATIONS:
        raise ValueError(f"there is no such operation{closest(name, OPERATIONS)}")
    return name


def _of_node(node: int) -> AfterValidator:
    """Return what refuses an input that a node cannot see."""

    def check(source: int) -> int:
        if not 0 <= source < node + 2:
            seen = f"0 to {node + 1}: the two cells before" + (", and earlier nodes" if node else "")
            raise ValueError(f"node {node} has the inputs {seen}")
        return source

    return AfterValidator(check)


_Operation = Annotated[StrictStr, AfterValidator(_known)]
_Step0 = tuple[_Operation, Annotated[StrictInt, _of_node(0)]]
_Step1 = tuple[_Operation, Annotated[StrictInt, _of_node(1)]]
_Step2 = tuple[_Operation, Annotated[StrictInt, _of_node(2)]]
_Step3 = tuple[_Operation, Annotated[StrictInt, _of_node(3)]]
_Cell = tuple[tuple[_Step0, _Step0], tuple[_Step1, _Step1], tuple[_Step2, _Step2], tuple[_Step3, _Step3]]


class _Genotypes(BaseModel):
    """Both cells, as the metadata of a file say them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    normal: _Cell
    reduce: _Cell


class PocketNetFile(BaseModel):
    """A PocketNet as a YAML file says it; what it leaves out is as published."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["pocketnet"]
    width: StrictInt = Field(default=16, ge=4, le=128, multiple_of=2)
    cells: StrictInt = Field(default=18, ge=4, le=64)
    embedding_size: StrictInt = Field(default=128, ge=SHORTEST_EMBEDDING, le=LONGEST_EMBEDDING)
    head: StrictInt = Field(default=512, ge=4, le=4096)
    normal: _Cell = NORMAL  # type: ignore[assignment]  # four nodes, as a cell has
    reduce: _Cell = REDUCE  # type: ignore[assignment]


def genotype_text(normal: Genotype, reduce: Genotype) -> str:
    """Return both cells as the text that `parse_genotype` reads, always the same one."""
    return json.dumps({"normal": normal, "reduce": reduce}, separators=(",", ":"))


def genotype_mark(normal: Genotype, reduce: Genotype) -> str:
    """Return eight hexadecimal signs that tell one genotype from another in a network's name."""
    return hashlib.sha256(genotype_text(normal, reduce).encode()).hexdigest()[:8]


def parse_genotype(text: str) -> tuple[Genotype, Genotype]:
    """Return the normal and the reducing cell that a text of a stranger's says.

    Raises:
        CheckpointError: listing every mistake.
    """
    try:
        if len(text) > _LONGEST_TEXT:
            raise ValueError(f"it has {len(text)} signs, and {_LONGEST_TEXT} are more than any genotype needs")
        found = _Genotypes.model_validate(json.loads(text))
    except ValidationError as error:
        raise _refused("".join(f"\n  {line}" for line in worded(error, _Genotypes))) from error
    except (ValueError, RecursionError) as error:
        raise _refused(f" {error}") from error
    return found.normal, found.reduce


def _refused(why: str) -> CheckpointError:
    what = f"the file's metadata say of which cells its PocketNet is, and {GENOTYPE_KEY} cannot be used:{why}"
    return CheckpointError(what, fix="write the file again with the program that trained it")
