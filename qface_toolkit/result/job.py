"""One compression, planned: what the pipeline does and the evidence is about."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from torch import fx

from qface_toolkit import __version__
from qface_toolkit.backends import FLOATS, INPUT_KEY
from qface_toolkit.canonical.graph import to_plain
from qface_toolkit.framing import STANDARD
from qface_toolkit.methods import Progress
from qface_toolkit.models import FloatModel
from qface_toolkit.quantize.forms import FormTables
from qface_toolkit.quantize.scheme import Scheme
from qface_toolkit.quantize.target import Deployment
from qface_toolkit.quantize.weights import scheme_for
from qface_toolkit.recipe import Recipe, Step
from qface_toolkit.result.folder import fingerprint_of
from qface_toolkit.sources import find_set

Tell = Callable[[str], Progress]
"""Called with the name of a step that begins; returns what to call as its work gets done."""


def silent(step: str) -> Progress:
    """Tell nobody."""
    return lambda done, total: None


@dataclass(frozen=True)
class Job:
    """One compression, all questions answered before anything is written.

    `canonical` is the model's network in canonical form: weights alone do not say what a module of the user's computes.
    `steps` are the recipe's and what its budget adds.
    `form_tables` decide how each PReLU is written; None: measure.
    """

    model: FloatModel
    canonical: fx.GraphModule
    recipe: Recipe
    recipe_name: str
    seed: int
    threads: int
    verify: bool
    command: str
    steps: tuple[Step, ...]
    form_tables: FormTables | None = None

    @property
    def fingerprint(self) -> str:
        """Return what makes two jobs the same, so that one can go on where the other stopped."""
        return fingerprint_of(
            source=self.model.source_sha256,
            structure=to_plain(self.canonical),
            spec=repr(self.model.spec),
            recipe=self.recipe.as_plain(),
            seed=self.seed,
            calibration=find_set(self.recipe.calibration.set).model_dump(),
            threads=self.threads,
            version=__version__,
            form_tables={machine: times.as_plain() for machine, times in (self.form_tables or {}).items()},
        )

    @property
    def scheme(self) -> Scheme:
        """Return the widths that the recipe begins with."""
        return scheme_for(self.recipe.scheme.model_dump(), self.canonical)

    @property
    def deployment(self) -> Deployment:
        """Return where the result will run, as far as it changes what is written."""
        target = self.recipe.target
        return Deployment(vnni=target.vnni, onnxruntime=target.onnxruntime, image=self.recipe.export.input)

    def facts(self) -> dict[str, str]:
        """Return what goes into every artifact's metadata; a file that takes pixels says so instead."""
        spec = self.model.spec
        return {
            "qface.version": __version__,
            "qface.model": spec.name,
            "qface.input_size": json.dumps(spec.input_size),
            "qface.mean": json.dumps(spec.mean),
            "qface.std": json.dumps(spec.std),
            "qface.color": spec.color,
            **({"qface.crop": spec.crop} if spec.crop != STANDARD.crop else {}),
            INPUT_KEY: FLOATS,
            "qface.embedding_size": str(spec.embedding_size),
            "qface.license": spec.license,
            "qface.origin": spec.origin,
            "qface.source_sha256": self.model.source_sha256,
            "qface.seed": str(self.seed),
        }
