"""The widths that weights were given, as figures: the block of report.json about bit allocation."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from qface_toolkit.report.figures import Block, Cosine, Count

Share = Annotated[float, Field(gt=0, lt=1)]
Bytes = Annotated[int, Field(gt=0)]


class LayerWidth(Block):
    """One layer: how many weights it has, in how many bits, and what these alone lose, 1 - cosine to float."""

    name: str
    weights: Annotated[int, Field(gt=0)]
    bits: Annotated[int, Field(ge=2, le=8)]
    loss: float

    @property
    def size_bytes(self) -> int:
        """Return the bytes of its codes, packed."""
        return -(-self.weights * self.bits // 8)


class AllocationBlock(Block):
    """The widths that reach `bytes_wanted` (a share of float.onnx) or `cosine_mean_wanted` on the additive model.

    `losses` says how layers' losses were found, on `images` calibration images. `loss_predicted` is their sum, `bound`
    what no other widths can lose less than (bytes, with a wanted cosine, as estimated: `estimated_bytes`).
    `loss_measured` is that of all weights together, and `cosine_mean` that of the whole model, both simulated on
    `held_out` other images right after the choice: later steps change both. `files` are the packed ones as they are.
    """

    bytes_wanted: Share | None = None
    cosine_mean_wanted: Share | None = None
    losses: Literal["measured", "predicted"]
    images: Annotated[int, Field(gt=0)]
    layers: tuple[LayerWidth, ...] = Field(min_length=1)
    bound: float
    loss_predicted: float
    loss_measured: float
    cosine_mean: Cosine
    held_out: Annotated[int, Field(gt=0)]
    size_bytes: Bytes
    estimated_bytes: Count
    files: dict[str, Bytes] = Field(default_factory=dict)
    float_bytes: Bytes

    @property
    def gap(self) -> float:
        """Return how far the choice is above the bound at most, as a share of it."""
        reached = self.loss_predicted if self.bytes_wanted is not None else float(self.estimated_bytes)
        return (reached - self.bound) / reached if reached > 0 else 0.0

    @model_validator(mode="after")
    def _one_wish(self) -> "AllocationBlock":
        if (self.bytes_wanted is None) == (self.cosine_mean_wanted is None):
            raise ValueError("widths are allocated either for bytes or for a cosine")
        return self
