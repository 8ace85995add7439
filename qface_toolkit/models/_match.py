"""Which architecture a state dict belongs to, decided by keys and shapes alone, and what differs where none fits."""

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models._architecture import ARCHITECTURES, Architecture, Plan, Shapes, ToldPlan
from qface_toolkit.models._spelling import Spelling

_SHOWN = 12
_FIX = (
    "check that the file is complete and of a supported network (`qface list models`), "
    "or pass the network itself to the Python API"
)
_OPTIONAL = "num_batches_tracked"


@dataclass(frozen=True)
class Difference:
    """What a state dict lacks, has too much, and has in another shape than a network needs."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: tuple[str, ...]

    def __len__(self) -> int:
        """Return how many keys differ."""
        return len(self.missing) + len(self.unexpected) + len(self.misshaped)

    def __str__(self) -> str:
        """Return one paragraph for each kind of difference, the first dozen keys of it."""
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", self.misshaped))
        return "\n".join(f"{len(keys)} {kind}: {_first(keys)}" for kind, keys in kinds if keys)


@dataclass(frozen=True)
class Match:
    """An architecture, the plan read for it, and how far the state dict is from the network of that plan."""

    architecture: Architecture
    plan: Plan
    difference: Difference


def match(shapes: Shapes, *, name: str | None = None, texts: Mapping[str, str] | None = None) -> Match:
    """Return the architecture these shapes belong to, and the nearest one where none or several could read them.

    The difference of the match may hold unexpected keys: classifier heads are for the caller to judge. `texts` stand
    beside the weights, and may say what shapes do not show; see `ToldPlan`.

    Raises:
        CheckpointError: if `texts` say what cannot be.
        UnknownName: if `name` is given and is that of no architecture.
    """
    candidates = [ARCHITECTURES.get(name)] if name else list(ARCHITECTURES.entries().values())
    readers = {architecture.read: architecture for architecture in candidates}
    matches = [found for architecture in readers.values() if (found := _read(architecture, shapes, texts or {}))]
    return min(matches, key=lambda found: len(found.difference)) if matches else _nearest(shapes, candidates)


@functools.lru_cache(maxsize=128)
def needed_shapes(plan: Plan) -> Shapes:
    """Return the keys and shapes of the plan's network, made without memory for its weights."""
    with torch.device("meta"):
        network = plan.build()
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def differing_error(found: Match, shapes: Shapes, *, name: str | None, where: str | None) -> CheckpointError:
    """Return the error that says how shapes differ from the architecture of `found`, `name` if it was given.

    Where other words in the keys explain most of it, those are said instead of the keys.
    """
    what = f"the state dict is not that of {name}" if name else "the state dict fits no architecture known here"
    needed = needed_shapes(found.plan)
    spelling = Spelling.between(shapes, needed)
    left = _compare(spelling.apply(shapes), needed)
    if len(left.unexpected) == len(shapes):
        return CheckpointError(
            f"{what}: none has one of its {len(shapes)} keys: {_first(tuple(shapes))}", where=where, fix=_FIX
        )
    how = f"from which it differs in {len(left)} keys" if left else "whose keys are spelt otherwise"
    renaming = None if left else spelling.command(shapes)
    fix = f"rename the keys and save the file again: {renaming}" if renaming else _FIX
    said = (f"{what}; the closest is {found.plan.name}, {how}", str(spelling), str(left))
    return CheckpointError("\n".join(filter(None, said)), where=where, fix=fix)


def _read(architecture: Architecture, shapes: Shapes, texts: Mapping[str, str]) -> Match | None:
    try:
        plan = architecture.read(shapes)
        if isinstance(plan, ToldPlan):
            plan = plan.as_told(texts)
        needed = needed_shapes(plan)
    except (LookupError, ValueError, ArithmeticError):
        return None
    published = ARCHITECTURES.entries().get(plan.name, architecture)
    return Match(published, plan, _compare(shapes, needed))


def _nearest(shapes: Shapes, candidates: list[Architecture]) -> Match:
    """Return the candidate that shares most keys with these shapes or, where none does, most weights of one shape.

    The family is found first, by one network of each: making all that are known takes a second.
    """
    families: dict[object, list[Architecture]] = {}
    for entry in candidates:
        families.setdefault(entry.read, []).append(entry)
    family = max(families.values(), key=lambda entries: _likeness(shapes, needed_shapes(entries[0].published)))
    entry = max(family, key=lambda one: _likeness(shapes, needed_shapes(one.published)))
    return Match(entry, entry.published, _compare(shapes, needed_shapes(entry.published)))


def _likeness(shapes: Shapes, needed: Shapes) -> tuple[float, float]:
    shared = shapes.keys() & needed.keys()
    alike = sum(shapes[key] == needed[key] for key in shared)
    held, wanted = Counter(shapes.values()), Counter(needed.values())
    fitting = (held & wanted).total() / max(held.total(), wanted.total(), 1)
    return (len(shared) + alike) / (2 * len(shapes.keys() | needed.keys())) + fitting, fitting


def _compare(shapes: Shapes, needed: Shapes) -> Difference:
    shared = [key for key in needed if key in shapes]
    return Difference(
        missing=tuple(key for key in needed if key not in shapes and not key.endswith(_OPTIONAL)),
        unexpected=tuple(key for key in shapes if key not in needed),
        misshaped=tuple(
            f"{key} {list(shapes[key])} instead of {list(needed[key])}" for key in shared if shapes[key] != needed[key]
        ),
    )


def _first(keys: tuple[str, ...]) -> str:
    shown = ", ".join(key if len(key) <= 120 else f"{key[:117]}..." for key in keys[:_SHOWN])
    return shown if len(keys) <= _SHOWN else f"{shown} and {len(keys) - _SHOWN} more"
