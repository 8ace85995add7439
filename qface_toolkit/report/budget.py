"""What a wanted cosine or size cost: layers kept in float and widths of weights, as blocks and in words."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from qface_toolkit.report.figures import NOTHING, Block, Cosine, Count, Positive, clean, megabytes, milliseconds, times
from qface_toolkit.report.page import Notes, Section, Table

PARETO_HEADINGS = ("layers in float", "MB", "median ms", "than int8", "cosine mean", "lowest")
WIDTH_HEADINGS = ("bits", "layers", "weights", "bytes of codes", "loss, summed")
LAYER_HEADINGS = ("layer", "weights", "bits", "bytes of codes", "loss alone")
NAMES_SHOWN = 12
Share = Annotated[float, Field(gt=0, lt=1)]
Bytes = Annotated[int, Field(gt=0)]


class ParetoPoint(Block):
    """A file with the first so many of the kept layers in float: its bytes, its latency and its cosines to float.

    `times_faster` compares with the file that keeps none, round by round, which a busy machine disturbs least.
    """

    layers: Count
    size_bytes: Annotated[int, Field(gt=0)]
    p50_ms: Positive | None = None
    times_faster: Positive | None = None
    cosine_mean: Cosine
    cosine_min: Cosine


class BudgetBlock(Block):
    """The layers that `artifact` keeps in float to reach a mean cosine, in the order in which they were chosen.

    `layers` counts all that there are. The points were timed in turns; the last one is the artifact itself. They were
    compared with the float model on `images` drawings that nothing was chosen with.
    """

    cosine_mean_wanted: Annotated[float, Field(gt=0, lt=1)]
    artifact: str
    layers: Count
    kept: tuple[str, ...]
    images: Annotated[int, Field(gt=0)]
    points: tuple[ParetoPoint, ...] = Field(min_length=1)

    @property
    def reached(self) -> bool:
        """Whether the artifact's mean cosine is the one that was wanted."""
        return self.points[-1].cosine_mean >= self.cosine_mean_wanted

    @model_validator(mode="after")
    def _points_end_with_the_artifact(self) -> "BudgetBlock":
        counts = [point.layers for point in self.points]
        if len({point.times_faster is None for point in self.points} | {one.p50_ms is None for one in self.points}) > 1:
            raise ValueError("either all points have a latency or none")
        if counts[0] != 0 or counts[-1] != len(self.kept) or counts != sorted(set(counts)):
            raise ValueError("the points must begin without kept layers and end with all of them")
        if len(self.kept) > self.layers:
            raise ValueError("more layers are kept than there are")
        return self


def budget_said(block: BudgetBlock) -> tuple[bool, str]:
    """Return whether the budget was met, and in two sentences what it cost."""
    first, last, wanted = block.points[0], block.points[-1], f"{block.cosine_mean_wanted:g}"
    if not block.kept and block.reached:
        said = (
            f"int8 alone reaches the wanted mean cosine of {wanted} ({_five_digits(last)}): no layer is kept in float."
        )
        return True, f"{clean(block.artifact)}: {said}"
    what = f"keeps {len(block.kept)} of {block.layers} layers in float for a mean cosine of {_five_digits(last)}"
    size = f"{megabytes(last.size_bytes)} MB instead of {megabytes(first.size_bytes)} MB"
    told = f"{clean(block.artifact)} {what} instead of {_five_digits(first)}, at {size}{_slower(first, last)}."
    if block.reached:
        return True, f"{told} Wanted was {wanted}. Only ONNX files keep layers in float."
    return False, f"The budget was missed: wanted was a mean cosine of {wanted}. {told}"


def _slower(first: ParetoPoint, last: ParetoPoint) -> str:
    if first.p50_ms is None or last.times_faster is None:
        return ", not timed"
    longer = 1 / last.times_faster
    told = f"{longer:.2f} times the {milliseconds(first.p50_ms)} ms"
    return f" and {told} ({first.p50_ms * (longer - 1):+.2f} ms)"


def pareto_rows(block: BudgetBlock) -> list[list[str]]:
    """Return the rows of a table (see PARETO_HEADINGS), one for each point."""
    return [
        [
            str(point.layers),
            megabytes(point.size_bytes),
            NOTHING if point.p50_ms is None else milliseconds(point.p50_ms),
            times(point.times_faster),
            _five_digits(point),
            f"{point.cosine_min:.5f}",
        ]
        for point in block.points
    ]


def kept_said(block: BudgetBlock) -> str:
    """Return the names of the kept layers, the first few of them."""
    names = [clean(name, 40) for name in block.kept[:NAMES_SHOWN]]
    more = f" and {len(block.kept) - NAMES_SHOWN} more" if len(block.kept) > NAMES_SHOWN else ""
    return f"Kept in float, chosen first to last: {', '.join(names)}{more}."


def _five_digits(point: ParetoPoint) -> str:
    return f"{point.cosine_mean:.5f}"


def budget_section(block: BudgetBlock) -> Section:
    """Return what each step towards the wanted cosine costs."""
    table = Table("What each step towards the wanted cosine costs", PARETO_HEADINGS, pareto_rows(block))
    sums = "Float sums depend on the kernel: behind these layers a code may differ from the simulated one by one."
    kept = [kept_said(block), sums] if block.kept else []
    how = f"Cosines on {block.images} held-out drawings; one image on 1 thread, timed in turns."
    said = (budget_said(block)[1], how)
    return Section("budget", "Pareto: cosine against latency and bytes", said, (table, Notes(kept)))


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


def allocation_said(block: AllocationBlock) -> str:
    """Return in a few sentences what was wanted, what was predicted and what came of it."""
    files = [f"{clean(name)} is {size / block.float_bytes:.4f} of float.onnx" for name, size in block.files.items()]
    wanted = (
        f"at most {block.bytes_wanted:g} of float.onnx with the least loss"
        if block.bytes_wanted is not None
        else f"the fewest bytes for a mean cosine of {block.cosine_mean_wanted:g}"
    )
    layers, weights = block.layers, sum(one.weights for one in block.layers)
    average = sum(one.bits * one.weights for one in layers) / weights
    return (
        f"Wanted was {wanted}: {min(one.bits for one in layers)} to {max(one.bits for one in layers)} bits, "
        f"{average:.2f} a weight. {'; '.join(files) + '. ' if files else ''}"
        f"The layers' losses add up to {block.loss_predicted:.4f}, at most {max(block.gap, 0):.2%} above the optimum; "
        f"together the weights lost {block.loss_measured:.4f}, before what later steps gained."
    )


def how_measured(block: AllocationBlock) -> str:
    """Return what the figures were made with."""
    return (
        f"Losses are 1 - cosine to float, {block.losses} on {block.images} calibration images; all weights together "
        f"on {block.held_out} others, where the whole model had a mean cosine of {block.cosine_mean:.5f}."
    )


def width_rows(block: AllocationBlock) -> list[list[str]]:
    """Return one row for each width (see WIDTH_HEADINGS)."""
    rows = []
    for bits in sorted({one.bits for one in block.layers}, reverse=True):
        layers = [one for one in block.layers if one.bits == bits]
        counts = (len(layers), sum(one.weights for one in layers), sum(one.size_bytes for one in layers))
        rows.append([str(bits), *(f"{count:,}" for count in counts), f"{sum(one.loss for one in layers):.5f}"])
    return rows


def layer_rows(block: AllocationBlock) -> list[list[str]]:
    """Return one row for each layer, in the order they run (see LAYER_HEADINGS)."""
    return [
        [clean(one.name, 40), f"{one.weights:,}", str(one.bits), f"{one.size_bytes:,}", f"{one.loss:.5f}"]
        for one in block.layers
    ]


def allocation_section(block: AllocationBlock) -> Section:
    """Return the widths that weights were given, together and layer by layer."""
    tables = (
        Table("Weights by width", WIDTH_HEADINGS, width_rows(block)),
        Table("The width of each layer, in the order they run", LAYER_HEADINGS, layer_rows(block)),
    )
    return Section("widths", "Widths of weights", (allocation_said(block), how_measured(block)), tables)
