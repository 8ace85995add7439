"""Keep the fewest layers in float that bring the embedding close enough to the float model's.

Only ONNX forms can: torch's engines and OpenVINO run what they run.
"""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field

from qface_toolkit.analysis.sensitivity import affordable_images, measure_sensitivity
from qface_toolkit.methods._base import Context, Method
from qface_toolkit.methods._held_out import HeldOut, held_out_count
from qface_toolkit.methods._ranking import ranked_layers
from qface_toolkit.methods._services import Reference
from qface_toolkit.quantize.model import QuantizedModel

RANKING_IMAGES, RANKING_BUDGET = 16, 1.2e12
"""Images at most, and multiply-adds (see analysis.sensitivity), to find out what each quantizer loses."""
FEWEST_IMAGES = 2
PASSES_TO_RANK = 100
"""Roughly what it takes to measure every quantizer of a network of some fifty layers on one image."""
MOST_DROPPED = 16
"""How many of the layers chosen first are tried again at the end: later ones may have made them unnecessary."""


class Options(BaseModel):
    """Options of `mixed`."""

    model_config = ConfigDict(extra="forbid")

    cosine_mean: float = Field(0.999, gt=0, lt=1, strict=True)
    """The mean cosine to the float model that shall be reached.

    Measured on the last eighth of the images, 64 at most, less its standard error: others shall mostly reach it too.
    """
    float_share: float = Field(1.0, gt=0, le=1)
    """Share of the multiplications that layers in float may take, at most."""


class Mixed(Method):
    """Rank layers by what keeping them gains for its time, and keep the first few that reach the target."""

    options = Options
    needs = ("mixing", "ranges", "images")
    gives = ("kept",)
    asks = (Reference,)

    def run(self, model: QuantizedModel, options: Options, context: Context) -> QuantizedModel:
        """Return the model with the layers that it keeps in float; if the target is out of reach, the best there is."""
        return _Search(model.with_kept(()), options, context).best()

    def passes(self, options: Options, images: int) -> float:
        """Return a rough figure: how many sets of layers are tried depends on what is found."""
        held_out = held_out_count(images)
        return PASSES_TO_RANK * min(RANKING_IMAGES, held_out) + 2 * MOST_DROPPED * held_out


class _Search:
    """Models with more and more layers kept, each measured once."""

    def __init__(self, model: QuantizedModel, options: Options, context: Context) -> None:
        self.model, self.wanted, self.context = model, options.cosine_mean, context
        self.float_share = options.float_share
        self.held_out = HeldOut(model, context)
        self.kept: list[tuple[str, ...]] = [()]
        self.found: dict[int, float] = {}

    def best(self) -> QuantizedModel:
        """Return the model that keeps the fewest layers and reaches the target, or else the closest."""
        if self.cosine(0) >= self.wanted:
            self.context.progress(3, 3)
            return self.model
        layers, number = self._layers(), 1
        self.context.progress(1, 3)
        while self._has(number, layers) and self.cosine(number) < self.wanted:
            number *= 2
        self.context.progress(2, 3)
        number = self._fewest(number // 2, min(number, len(self.kept) - 1))
        chosen = self._without_needless(self.kept[number]) if self.cosine(number) >= self.wanted else self.kept[number]
        self.context.progress(3, 3)
        return self.model.with_kept(chosen)

    def _layers(self) -> Iterator[tuple[str, ...]]:
        """Return the groups of layers to keep, in order, that take no greater share than they may."""
        target, model = self.context.target, self.model
        count = max(affordable_images(model, target, RANKING_IMAGES, RANKING_BUDGET), FEWEST_IMAGES)
        found = measure_sensitivity(model, target, self.held_out.images[:count])
        return ranked_layers(model, found, self.float_share)

    def _has(self, number: int, layers: Iterator[tuple[str, ...]]) -> bool:
        """Tell whether there are so many groups of layers, after adding them to `kept`."""
        while len(self.kept) <= number and (group := next(layers, None)) is not None:
            self.kept.append((*self.kept[-1], *group))
        return number < len(self.kept)

    def _fewest(self, too_few: int, enough: int) -> int:
        """Return the smallest number of groups that reaches the target, by halving; the closest, if none does."""
        if self.cosine(enough) < self.wanted:
            return max(self.found, key=lambda number: (self.found[number], -number))
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            too_few, enough = (too_few, middle) if self.cosine(middle) >= self.wanted else (middle, enough)
        return enough

    def _without_needless(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        """Return the layers without those that the target can be reached without."""
        for layer in layers[:MOST_DROPPED]:
            fewer = tuple(other for other in layers if other != layer)
            if self._measured(fewer) >= self.wanted:
                layers = fewer
        return layers

    def cosine(self, number: int) -> float:
        """Return the mean cosine to the float model, less its standard error, with so many groups of layers kept."""
        if number not in self.found:
            self.found[number] = self._measured(self.kept[number])
        return self.found[number]

    def _measured(self, layers: tuple[str, ...]) -> float:
        return self.held_out.cautious_cosine(self.model.with_kept(layers))


ENTRIES = {"mixed": Mixed()}
