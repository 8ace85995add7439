"""What every block of a report is made of: strict pydantic models, and the kinds of figures they hold."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Rate = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(ge=-1, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


class Block(BaseModel):
    """A part of a report: no unknown keys, no NaN, no infinity, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
