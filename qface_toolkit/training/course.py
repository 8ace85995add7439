"""The loop of a training, from the first step to the last, which a killed process takes up where it was saved.

Every random choice is derived from the seed, the epoch and the step, never from what was drawn before: a run that was
stopped and resumed ends with the same weights as one that was not, for the same number of threads and processes.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from qface_toolkit.errors import TrainingError
from qface_toolkit.ranks import Ranks
from qface_toolkit.training.feed import Batch, Feed
from qface_toolkit.training.held_out import Figures, HeldOut, embed, measure
from qface_toolkit.training.history import History, Sums
from qface_toolkit.training.lesson import Lesson
from qface_toolkit.training.pupil import Pupil
from qface_toolkit.training.rates import learning_rate, same_teacher, teacher_of
from qface_toolkit.training.recipe import Optimizer, TrainingRecipe
from qface_toolkit.training.state import Average, Tree, plain_state, read_state, state_bytes

_POINTS = 400
"""How many points a curve has at least, if there are as many steps."""


class Keeper(Protocol):
    """Where states and snapshots go; see the pipeline."""

    def load(self) -> tuple[bytes, str] | None:
        """Return the last whole state of this rank and where it stands, or None."""
        ...

    def save(self, step: int, state: bytes) -> None:
        """Keep the state of this rank after a step; all ranks call this, and the ones before may go."""
        ...

    def snapshot(self, epoch: int, network: nn.Module) -> str:
        """Keep the network of an epoch, counted from 1, and return its file's name, empty if it is not kept."""
        ...

    def kept(self) -> str:
        """Return where the last snapshot stands, or an empty text."""
        ...


class Nowhere:
    """Keeps nothing: what was learnt is lost with the process."""

    def load(self) -> None:
        """Return no state."""

    def save(self, step: int, state: bytes) -> None:
        """Drop a state."""

    def snapshot(self, epoch: int, network: nn.Module) -> str:
        """Drop a snapshot."""
        return ""

    def kept(self) -> str:
        """Return that nothing is kept."""
        return ""


@dataclass
class Course:
    """One training, on one rank; `network` is the pupil's own, and is trained in place."""

    recipe: TrainingRecipe
    feed: Feed
    lesson: Lesson
    pupil: Pupil
    beginnings: tuple[int, ...]
    held_out: HeldOut | None
    ranks: Ranks
    keeper: Keeper
    progress: Callable[[int, int], None]
    history: History = field(default_factory=History)
    average: Average | None = None
    best: Tree = field(default_factory=dict)
    wanted: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the optimizer, and go on from a state that is there."""
        self.optimizer = _optimizer(self._modules(), self.recipe.optimizer)
        if self.recipe.average:
            self.average = Average(self.pupil.network, self.recipe.average)
        found = self.keeper.load()
        if found is not None:
            self._restore(*found)

    @property
    def steps(self) -> int:
        """How many steps all epochs have."""
        return self.recipe.epochs * self.feed.steps

    def run(self) -> str:
        """Learn to the end, and return why it ended there; the network then holds the weights that are kept.

        Raises:
            TrainingError: if a loss is not finite, or hardly an image can be read.
        """
        batches = self.feed.batches(self.history.step, self.steps)
        while not self._stale() and (batch := next(batches, None)) is not None:
            self._learn(batch)
            if self.history.step % self.feed.steps == 0:
                self._end_epoch(batch.epoch)
            elif self.history.step % self.recipe.checkpoint_steps == 0:
                self._save()
        batches.close()
        why = f"no better for {self.recipe.patience} epochs" if self._stale() else "all epochs"
        self._settle()
        return why

    def _stale(self) -> bool:
        """Tell whether there is no use in going on: for as long as the recipe is patient, no epoch was better."""
        over, history = self.history.step // self.feed.steps, self.history
        measured = bool(history.epochs) and history.best is not None
        return bool(self.recipe.patience) and measured and over - history.best_epoch >= (self.recipe.patience or 0)

    def _modules(self) -> list[nn.Module]:
        return [self.pupil] if self.lesson.centres is None else [self.pupil, self.lesson.centres]

    def _learn(self, batch: Batch) -> None:
        """Take one step."""
        started, history = time.perf_counter(), self.history
        passed = history.step / self.feed.steps
        rate = learning_rate(passed, self.recipe.epochs, self.recipe.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(self.lesson.seed * 1_000_003 + history.step * self.ranks.size + self.ranks.rank)  # dropout's
        if self.lesson.teacher is not None:
            self.lesson.teacher.turn(teacher_of(batch.epoch, self.beginnings))
        parts, right = self.lesson.parts(batch, passed, history.step)
        loss = torch.stack([weight * value for weight, value in parts.values()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
        told = self._told(parts, right)
        gradient = self._clip()
        self._check(told, gradient, batch)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.pupil.network)
        history.step += 1
        history.seconds += time.perf_counter() - started
        history.epoch_seconds += time.perf_counter() - started
        self._note(told, gradient, rate)
        self.progress(history.step, self.steps)

    def _told(self, parts: dict[str, tuple[float, Tensor]], right: Tensor | None) -> dict[str, float]:
        """Return the weighted parts of the loss and the share told right, as means over ranks, in one exchange."""
        values = [weight * value.detach() for weight, value in parts.values()]
        values += [] if right is None else [right]
        summed = self.ranks.sum(torch.stack([value.double() for value in values])) / self.ranks.size
        names = [*parts, *([] if right is None else ["accuracy"])]
        return dict(zip(names, summed.tolist(), strict=True))

    def _clip(self) -> float:
        """Cut the gradients, of all ranks' directions as well, to the recipe's length, and return what it was."""
        own = [parameter.grad for parameter in self.pupil.parameters() if parameter.grad is not None]
        length = torch.stack([_squared(gradient) for gradient in own]).sum()
        if self.lesson.centres is not None and self.lesson.centres.weight.grad is not None:
            own.append(self.lesson.centres.weight.grad)
            length = length + self.ranks.sum(_squared(own[-1]))
        found = math.sqrt(float(length))
        if found > self.recipe.optimizer.clip:
            torch._foreach_mul_(own, self.recipe.optimizer.clip / found)
        return found

    def _check(self, told: dict[str, float], gradient: float, batch: Batch) -> None:
        wrong = [name for name, value in told.items() if not math.isfinite(value)]
        if wrong or not math.isfinite(gradient):
            named = f"the loss ({', '.join(wrong)})" if wrong else "the gradient"
            what = f"{named} is not a finite number any more in step {self.history.step + 1} (epoch {batch.epoch + 1})"
            kept = self.keeper.kept()
            fix = (
                f"begin again from {kept or 'the start'} with a lower optimizer.learning_rate, a longer "
                "optimizer.warmup_epochs or a smaller optimizer.clip"
            )
            raise TrainingError(what, fix=fix)

    def _note(self, told: dict[str, float], gradient: float, rate: float) -> None:
        history = self.history
        loss = sum(value for name, value in told.items() if name != "accuracy")
        history.epoch_loss += loss
        history.sums.add(loss, gradient, told)
        if history.step % max(1, self.steps // _POINTS) and history.step != self.steps:
            return
        sums, count = history.sums, history.sums.count
        point: dict[str, Any] = {
            "step": history.step,
            "epoch": history.step / self.feed.steps,
            "loss": sums.loss / count,
            "rate": rate,
            "gradient": sums.gradient / count,
            "parts": {name: value / count for name, value in sums.parts.items()},
        }
        history.points.append(point)
        history.sums = Sums()

    def _end_epoch(self, epoch: int) -> None:
        """Measure, keep a snapshot and a state."""
        history, network = self.history, self._measured_network()
        figures = self._figures(network, epoch)
        name = self.keeper.snapshot(epoch + 1, network)
        if history.is_best(figures.score, epoch, anew=not same_teacher(history.best_epoch - 1, epoch, self.beginnings)):
            self.best = copy.deepcopy(plain_state(network)) if self.recipe.patience else {}
        end: dict[str, Any] = {"epoch": epoch + 1, "step": history.step, "loss": history.epoch_loss / self.feed.steps}
        end |= {"seconds": history.epoch_seconds, "snapshot": name, **asdict(figures)}
        history.epochs.append(end)
        history.epoch_loss = history.epoch_seconds = 0.0
        self._save()

    def _measured_network(self) -> nn.Module:
        """Return the network whose weights would be kept now."""
        if self.average is None:
            return self.pupil.network
        network = copy.deepcopy(self.pupil.network)
        network.load_state_dict(self.average.kept)
        return network

    def _figures(self, network: nn.Module, epoch: int) -> Figures:
        """Return what rank 0 measures; the others are told the figure that decides."""
        figures = Figures()
        if self.held_out is not None and self.ranks.leads:
            place, teacher, wanted = self.lesson.place, self.lesson.teacher, None
            found = embed(network, self.lesson.spec, self.held_out.crops, place.device)
            if teacher is not None and teacher.spec.embedding_size == found.shape[1]:
                number = teacher_of(epoch, self.beginnings)
                if number not in self.wanted:
                    own = teacher.turn(number)
                    self.wanted = {number: embed(own.model.network, own.spec, self.held_out.crops, place.device)}
                wanted = self.wanted[number]
            figures = measure(found, wanted, self.held_out)
        score = torch.tensor(math.nan if figures.score is None else figures.score, dtype=torch.float64)
        told = float(self.ranks.gather(score.to(self.lesson.place.device))[0])
        if self.ranks.leads or math.isnan(told):
            return figures
        return Figures(told)

    def _save(self) -> None:
        centres = self.lesson.centres
        tensors = {
            "pupil": plain_state(self.pupil),
            "centres": plain_state(centres),
            "optimizer": self.optimizer.state_dict(),
            "average": {} if self.average is None else self.average.state(),
            "best": self.best,
        }
        values = {"history": asdict(self.history), "averaged": 0 if self.average is None else self.average.steps}
        self.keeper.save(self.history.step, state_bytes(tensors, values))

    def _restore(self, data: bytes, where: str) -> None:
        tensors, values = read_state(data, where)
        self.pupil.load_state_dict(tensors["pupil"])
        if self.lesson.centres is not None:
            self.lesson.centres.load_state_dict(tensors["centres"])
        self.optimizer.load_state_dict(tensors["optimizer"])
        if self.average is not None:
            self.average.restore(tensors["average"], values["averaged"])
        self.best = tensors["best"]
        self.history = History.of(values["history"])
        self.history.resumed += 1

    def _settle(self) -> None:
        """Put the weights that are kept into the network: the best epoch's with patience, else the last ones."""
        network = self.pupil.network
        if self.recipe.patience and self.best:
            network.load_state_dict(self.best)
        elif self.average is not None:
            network.load_state_dict(self.average.kept)


def _squared(gradient: Tensor) -> Tensor:
    """Return the squared length of a gradient in float64, without a copy of it in float64."""
    length: Tensor = torch.linalg.vector_norm(gradient, dtype=torch.float64)
    return length.square()


def _optimizer(modules: list[nn.Module], options: Optimizer) -> torch.optim.Optimizer:
    parameters = [one for module in modules for one in module.parameters() if one.requires_grad]
    # Scales, shifts and slopes are one-dimensional: pulling them to zero switches channels off.
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    kept = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    if options.name == "adamw":
        return torch.optim.AdamW(groups, lr=options.learning_rate)
    nesterov = options.momentum > 0
    return torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum, nesterov=nesterov)
