"""Take whole channels out of a network until it costs what the budget says, and let the others take over.

In rounds, each of which takes a part: channels are ranked by what the embedding would miss (see analysis.elimination),
those go that cost it least for what they save (see analysis.narrowing), and every layer that is left is solved anew to
make what the whole network made (see analysis.repair). What is saved is counted in multiplications, in bytes, or in the
milliseconds that the table of operator times gives for the first file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, fx

from qface_toolkit.analysis.elimination import Order, find_orders, order_by
from qface_toolkit.analysis.narrowing import Prices, narrow_to, smallest
from qface_toolkit.analysis.patches import matrix
from qface_toolkit.analysis.removable import Removable, find_removable, narrowed
from qface_toolkit.analysis.repair import repair
from qface_toolkit.canonical.edit import ensure_shapes, shape_of
from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.errors import RecipeError
from qface_toolkit.methods._base import Context, Method, Need
from qface_toolkit.methods._held_out import held_out_count
from qface_toolkit.methods._services import Foreseen, Forms, Record
from qface_toolkit.quantize.forms import operator_table
from qface_toolkit.quantize.groups import choose_groups, shape_of_conv
from qface_toolkit.quantize.model import QuantizedModel, embed
from qface_toolkit.quantize.plan import LAYERS, make_plan
from qface_toolkit.scoring.agreement import row_cosines

Ranking = Literal["embedding", "magnitude"]


class Options(BaseModel):
    """Options of `prune`: one of `macs`, `ms_share` and `bytes` says what is wanted, here or in the recipe's budget."""

    model_config = ConfigDict(extra="forbid")

    macs: float | None = Field(None, gt=0, lt=1, strict=True)
    """Share of the multiplications that are left."""
    ms_share: float | None = Field(None, gt=0, lt=1, strict=True)
    """Share of the milliseconds that the table gives for the first file of the whole network."""
    bytes: float | None = Field(None, gt=0, lt=1, strict=True)
    """Share of the weights that are left."""
    images: int = Field(192, ge=8)
    """Calibration images that are looked at, the first ones; the last eighth says what each round did."""
    rounds: int = Field(4, ge=1, le=100)
    """Parts in which channels go."""
    step: int = Field(8, ge=1, le=256)
    """Channels that are left are multiples of this; the table decides which multiple."""
    ranking: Ranking = "embedding"
    """By what the embedding misses, or by the size of weights, as is usual."""
    repair: bool = True
    """Solve layers anew after each round."""
    keep: tuple[str, ...] = ()
    """Layers that keep all channels that they make, by name or wildcard."""

    @model_validator(mode="after")
    def _one_wish(self) -> "Options":
        if len([one for one in (self.macs, self.ms_share, self.bytes) if one is not None]) > 1:
            raise ValueError("say one of macs, ms_share and bytes: the others follow")
        return self


class Prune(Method):
    """Narrow a float network to a budget."""

    options = Options
    needs = ("images",)
    gives = ("narrowed",)
    takes = ("ranges",)
    asks = (Foreseen, Forms, Record)

    def needed(self, options: Options) -> tuple[Need, ...]:
        """Return what must be there: a wish, and whoever knows the times if it is one for time."""
        wish = (options.macs, options.ms_share, options.bytes) != (None, None, None)
        return (*self.needs, *(() if wish else ("less",)), *(("times",) if options.ms_share else ()))

    def check(self, options: Options, network: fx.GraphModule) -> None:
        """Refuse wildcards that no layer matches."""
        names = [node.name for node in network.graph.nodes if operation(node) in LAYERS]
        strange = [one for one in options.keep if not any(fnmatchcase(name, one) for name in names)]
        if strange:
            what = f"no layer is called {', '.join(strange)}"
            raise RecipeError(what, where="prune.keep", fix=f"names are like {', '.join(names[:3])}: see qface inspect")

    def run(self, model: QuantizedModel, options: Options, context: Context) -> QuantizedModel:
        """Return the model with fewer channels, without ranges.

        Raises:
            RecipeError: if no channel can go, or too few of them.
        """
        pruning = _Pruning(model, options, context)
        network = pruning.run()
        if (record := context.service(Record)) is not None:
            record.keep("narrowed", pruning.told)
        forms, groups = context.service(Forms), model.groups
        if forms is not None and forms.tables is not None:
            ensure_shapes(network, model.spec.input_size, model.spec.channels)
            groups = choose_groups(network, operator_table(forms.tables), model.deployment)
        plan = make_plan(network)
        return replace(model, network=network, plan=plan, groups=groups).with_ranges({})

    def passes(self, options: Options, images: int) -> float:
        """Return the passes behind statistics and repairs; solving takes as long again."""
        return 10.0 * options.rounds * min(options.images, images)


@dataclass(frozen=True)
class Round:
    """What one round took and gave: the share that is left, and cosines to the whole network, before and after."""

    share: float
    predicted_loss: float
    cosine_taken: float
    cosine_repaired: float


class _Pruning:
    """The rounds of one pruning."""

    def __init__(self, model: QuantizedModel, options: Options, context: Context) -> None:
        self.model, self.options, self.context = model, options, context
        images = context.inputs[: options.images]
        cut = len(images) - held_out_count(len(images))
        self.images, self.held_out = images[:cut], images[cut:]
        self.whole, self.network = model.network, model.network
        ensure_shapes(self.whole, model.spec.input_size, model.spec.channels)
        self.expected = embed(self.whole, self.held_out)
        self.prices, self.kind = self._prices()
        self.price = sum(self.prices(self.whole).values())
        self.left = {
            node.name: torch.ones(shape_of(node)[1], dtype=torch.bool)
            for node in self.whole.graph.nodes
            if operation(node) != "output"
        }
        self.told: dict[str, Any] = {}

    @property
    def wanted(self) -> float:
        """The share of the price that is wanted."""
        return float(getattr(self.options, self.kind))

    def _prices(self) -> tuple[Prices, Literal["macs", "ms_share", "bytes"]]:
        if self.options.ms_share is not None:
            foreseen = self.context.service(Foreseen)
            assert foreseen is not None, "needs are checked"
            return foreseen.of, "ms_share"
        return (_bytes, "bytes") if self.options.bytes is not None else (_macs, "macs")

    def run(self) -> fx.GraphModule:
        """Return the narrowed network."""
        rounds: list[Round] = []
        for number in range(1, self.options.rounds + 1):
            rounds.append(self._round(self.wanted ** (number / self.options.rounds), number))
        self.told = {
            "by": self.kind,
            "wanted": self.wanted,
            "share": rounds[-1].share,
            "macs_share": sum(_macs(self.network).values()) / sum(_macs(self.whole).values()),
            "rounds": [vars(one) for one in rounds],
            "channels": {
                name: [len(self.left[name]), int(self.left[name].sum())]
                for name in (node.name for node in self.whole.graph.nodes if operation(node) in LAYERS)
            },
        }
        return self.network

    def _round(self, share: float, number: int) -> Round:
        size = self.model.spec.input_size
        removable = find_removable(self.network, size, self.model.spec.channels, self.options.keep)
        orders = self._orders(removable, self._progress(number, 0))
        if number == 1:
            self._check_reach(removable, orders)
        now = sum(self.prices(self.network).values())
        found = narrow_to(self.network, removable, orders, self.prices, share * self.price / now, self.options.step)
        gone = found.gone(orders)
        self.network = narrowed(self.network, removable, gone)
        for name, stays in removable.stays(gone).items():
            self.left[name][self.left[name].nonzero().squeeze(1)[~stays]] = False
        taken = self._cosine()
        if self.options.repair:
            repair(
                self.network,
                self.whole,
                self.left,
                self.images,
                seed=self.context.seed,
                batch_size=self.context.batch_size,
                progress=self._progress(number, 1),
            )
        return Round(found.cost / self.price, found.loss, taken, self._cosine())

    def _orders(self, removable: Removable, progress: Callable[[int, int], None]) -> list[Order]:
        if self.options.ranking == "magnitude":
            sizes = _magnitudes(self.network, removable)
            return [order_by(space, sizes) for space in removable.spaces()]
        return find_orders(
            self.network,
            removable,
            self.images,
            seed=self.context.seed,
            batch_size=self.context.batch_size,
            progress=progress,
        )

    def _progress(self, number: int, half: int) -> Callable[[int, int], None]:
        whole = 2 * self.options.rounds

        def progress(done: int, total: int) -> None:
            self.context.progress(round(1000 * (2 * (number - 1) + half + done / max(total, 1))), 1000 * whole)

        return progress

    def _cosine(self) -> float:
        return float(row_cosines(self.expected, embed(self.network, self.held_out)).mean())

    def _check_reach(self, removable: Removable, orders: list[Order]) -> None:
        """Refuse a budget below what the network costs with the fewest channels."""
        if not orders:
            what = "no channel of this network can go: something reads or makes all of them together"
            raise RecipeError(what, where="prune", fix="leave the step out")
        least = smallest(self.network, removable, orders, self.prices)
        if least.cost > self.wanted * self.price:
            share = least.cost / self.price
            raise RecipeError(
                f"a share of {self.wanted:g} is out of reach: with the fewest channels the network has {share:.3f} "
                f"of it, and is predicted to lose {least.loss:.2f} in cosine before it is trained",
                where=f"budget.{self.kind}",
                fix=f"ask for more than {share:.3f}",
            )


def _macs(network: fx.GraphModule) -> Mapping[str, float]:
    """Return the multiplications of each layer, on a network whose shapes are noted."""
    layers = (node for node in network.graph.nodes if operation(node) in LAYERS)
    return {node.name: shape_of_conv(node).multiply_adds for node in layers}


def _bytes(network: fx.GraphModule) -> Mapping[str, float]:
    layers = (node for node in network.graph.nodes if operation(node) in LAYERS)
    return {node.name: float(module(node).weight.numel()) for node in layers}


def _magnitudes(network: fx.GraphModule, removable: Removable) -> dict[int, float]:
    """Return the mean size of the weights that make each class, per layer."""
    sums, counts = np.zeros(len(removable.held)), np.zeros(len(removable.held))
    for node in network.graph.nodes:
        if operation(node) in LAYERS:
            sizes: Tensor = matrix(module(node)).abs().mean(-1).flatten()
            classes = removable.of[node.name].numpy()
            np.add.at(sums, classes, (sizes / sizes.mean()).numpy())
            np.add.at(counts, classes, 1)
    return dict(enumerate((sums / np.maximum(counts, 1)).tolist()))


ENTRIES = {"prune": Prune()}
