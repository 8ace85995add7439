"""What a backend is: it lowers a QuantizedModel to one runtime's own form, runs what it wrote, and says what it can."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import fx

from qface_toolkit.environment import machine_here
from qface_toolkit.errors import ArtifactError, RecipeError
from qface_toolkit.models import FloatModel, ModelSpec
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import make_plan
from qface_toolkit.quantize.scheme import EIGHT_BITS, Scheme
from qface_toolkit.quantize.target import Target
from qface_toolkit.runtimes import Runtime
from qface_toolkit.runtimes.fusion import Fusion
from qface_toolkit.scoring.parity import Codes
from qface_toolkit.times import Row, TimeTable
from qface_toolkit.verifier import Machine


def refusals(scheme: Scheme, network: fx.GraphModule) -> list[str]:
    """Return what cannot be held of a scheme, a line for each tensor of a canonical network; often nothing.

    Weights of any width are small codes in whole bytes, or packed. An image always comes in eight bits.
    """
    _, *tensors = make_plan(network).owners()
    bits = {name: scheme.activation_bits(name) for name in tensors}
    return [f"{name}: its activations have {width} bits" for name, width in bits.items() if width < EIGHT_BITS]


def check_expressible(called: str, scheme: Scheme, network: fx.GraphModule) -> None:
    """Check that a backend, or a file, called so can hold a scheme in eight bits.

    Raises:
        RecipeError: naming the tensors that it cannot, and what can.
    """
    found = refusals(scheme, network)
    if found:
        what = f"{called} runs activations of {EIGHT_BITS} bits and no fewer:" + "".join(
            f"\n  {line}" for line in found
        )
        fix = f"--backend simulation computes them in torch; for integers, --set scheme.activations.bits={EIGHT_BITS}"
        raise RecipeError(what, where="scheme", fix=fix)


Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[Any]
Embed = Callable[[Floats], Floats]
"""Runs a model: inputs float32 [N, C, height, width] to embeddings float32 [N, D]."""

Facts = Mapping[str, str]
"""What travels inside an artifact beside the network: preprocessing, oldest runtime, provenance."""


@dataclass(frozen=True)
class Content:
    """A file that was looked into before anything of it runs: its bytes, their hash, and what it says of itself.

    Who looked at a file runs these bytes, and not what its path leads to by then. `spec` is the model's, where the file
    holds all of it; `parsed` is whatever its runner made of the bytes.
    """

    data: bytes
    sha256: str
    facts: Facts
    spec: ModelSpec | None = None
    parsed: Any = None


class SeveralOutputs(ArtifactError):
    """A file runs, and more than one of its outputs can be the embedding, or none."""


@dataclass(frozen=True)
class ImageInput:
    """What a file takes: images of this (height, width) and so many channels.

    `batch` says how many at a time, if it is made for so many and no others.
    """

    size: tuple[int, int]
    batch: int | None = None
    channels: int = 3


class Runner(ABC):
    """Runs files of one kind, those of strangers too: these are read first, and tried out within bounds."""

    runtime: Runtime

    @property
    def machine(self) -> Machine | None:
        """The kind of processor that its files are made for, this one if for all; None: speed says nothing on any."""
        return machine_here()

    @property
    def loading(self) -> Mapping[str, bool] | None:
        """Options of the program that measures loading; None: it cannot load these files."""
        return None

    def reads(self, file: Path) -> bool:
        """Tell whether a file of the right ending is of this kind, at a glance."""
        return True

    @abstractmethod
    def read(self, file: Path) -> Content:
        """Return the content of a file that anybody may have written; nothing of it runs.

        Raises:
            QFaceError: if the file is damaged, refused or not to be trusted.
        """

    @abstractmethod
    def image_input(self, file: Path, content: Content) -> ImageInput:
        """Return what the file takes.

        Raises:
            ArtifactError: if that is not images, or it does not say how large they are.
        """

    def fitted(self, file: Path, content: Content, given: Mapping[str, Any]) -> Content:
        """Return the content as facts that the user gives want it: its output, and sizes that it leaves open.

        Raises:
            QFaceError: if it cannot be so.
        """
        return content

    def float_network(self, content: Content) -> bool:
        """Tell whether a file is a plain float network, whose architecture tells what the file may not."""
        return False

    @abstractmethod
    def open(self, file: Path, threads: int, content: Content | None = None) -> Embed:
        """Load a file for running with this many threads; `content` is its own, if it was read already.

        Raises:
            BackendUnavailable: if this machine cannot run it.
        """

    def try_out(self, file: Path, inputs: Floats, content: Content) -> Floats:
        """Return the embeddings that a stranger's file gives, for which it gets so much memory and time and no more.

        Raises:
            QFaceError: if it wants more, or cannot run.
        """
        return self.open(file, 1, content)(inputs)

    def look(self, file: Path, inputs: Floats, content: Content, tensors: Sequence[str]) -> list[Numbers] | None:
        """Return what a stranger's file gives and tensors inside it, as `try_out` runs it; None if it cannot be asked.

        Raises:
            QFaceError: if it holds no such tensors, or for the reasons of `try_out`.
        """
        return None

    def repeat(self, file: Path, inputs: Floats, threads: int, content: Content | None = None) -> Callable[[], object]:
        """Load a file and return what runs it on these inputs, prepared once: what latency is measured with."""
        run = self.open(file, threads, content)
        return lambda: run(inputs)

    @abstractmethod
    def inspect(self, file: Path) -> Fusion:
        """Return what the runtime really runs, operator by operator, and what did not become integer."""

    def version(self, content: Content | None = None) -> str:
        """Return what runs a file here, with its version."""
        return self.runtime.name


class FloatFile(Runner):
    """One of the float files of a result, which everything else is compared with."""

    artifact: str

    @abstractmethod
    def write(self, model: FloatModel, canonical: fx.GraphModule, facts: Facts) -> bytes:
        """Return the file of a model, of which `canonical` is the network in canonical form."""

    def layer_names(self, canonical: fx.GraphModule) -> Mapping[str, str] | None:
        """Return which tensor of the file ends which layer; None where its cost has no such parts."""
        return None

    def predict(self, canonical: fx.GraphModule, spec: ModelSpec, times: TimeTable) -> Mapping[str, float] | None:
        """Return the microseconds that each layer should take, in order of execution; None where nobody knows."""
        return None


class Backend(Runner):
    """One form for one runtime: what a file of this folder puts into `ENTRIES`."""

    artifact: str
    """Name of the file that it writes."""
    engine: str
    """The runtime's engine, or the kind of processor that the form is for."""
    target: Target
    packs: bool = False
    """Whether weights below eight bits take less than a byte in its file, so that it can meet a budget of bytes."""
    no_codes: str | None = None
    """Why there are no codes inside its files to be read."""
    narrow: bool = False
    """Whether activations may have fewer than eight bits."""
    settings: tuple[str, ...] = ()
    """Keys of a recipe that change what is written, so that `qface export --set` may change them."""

    @property
    def machine(self) -> Machine | None:
        """The kind of processor that the target's files are made for."""
        return self.target.machine

    def check(self, called: str, scheme: Scheme, network: fx.GraphModule) -> None:
        """Check that files of this backend, or one called so, can hold a scheme for a canonical network.

        Raises:
            RecipeError: naming the tensors that they cannot hold, and what can.
        """
        if not self.narrow:
            check_expressible(called, scheme, network)

    @abstractmethod
    def lower(self, model: QuantizedModel, facts: Facts) -> bytes:
        """Return the artifact.

        Raises:
            BackendUnavailable: if this machine cannot make it.
        """

    @abstractmethod
    def codes(self, file: Path, model: QuantizedModel, inputs: Floats) -> Mapping[str, Codes]:
        """Return what the runtime computes inside an artifact of `model`: each tensor's codes, as unsigned ones count.

        `inputs` are preprocessed images, float32 [N, C, height, width].

        Raises:
            MeasurementError: if the codes cannot be had.
        """

    def time_operators(self, rows: Iterable[Row], progress: Callable[[int, int], None]) -> Mapping[Row, float] | None:
        """Return how many microseconds convolutions take on this machine; None where times choose nothing."""
        return None

    def predict(self, model: QuantizedModel, times: TimeTable) -> Mapping[str, float] | None:
        """Return the microseconds that each layer of a file should take, in order; None where nobody knows."""
        return None

    def foresee(self, canonical: fx.GraphModule, spec: ModelSpec, times: TimeTable) -> Mapping[str, float] | None:
        """Return the same for a network of which nothing but its shapes is known, in the fastest forms that it has."""
        return None

    def layer_names(self, model: QuantizedModel) -> Mapping[str, str] | None:
        """Return which tensor of an ONNX file ends which layer of `model`; None where its cost has no such parts."""
        return None

    def code_names(self, model: QuantizedModel) -> Mapping[str, str]:
        """Return what a file of `model` calls the codes of each tensor, in order of execution, if it can be asked."""
        return {}
