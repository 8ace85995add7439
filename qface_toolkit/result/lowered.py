"""A model that backends lower, as a job's files and evidence ask for it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from qface_toolkit.analysis.sensitivity import Sensitivity, affordable_images, measure_sensitivity
from qface_toolkit.backends import BACKENDS, Backend
from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.environment import machine_here
from qface_toolkit.errors import MeasurementError
from qface_toolkit.integer.making import program_of
from qface_toolkit.integer.simulate import Simulator, embed_as_integers
from qface_toolkit.integer.tensors import side_by_side, tensor_sources
from qface_toolkit.quantize.image_input import takes_pixels
from qface_toolkit.quantize.model import QuantizedModel, description, load_quantized, weights_bytes
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.quantize.target import Target
from qface_toolkit.result.expected import expected_of
from qface_toolkit.result.made import FLOAT_BITS, Arrays, Coded, Files, Floats, Made
from qface_toolkit.result.names import DESCRIPTION, WEIGHTS
from qface_toolkit.scoring.parity import CodeDifference, TensorAgreement, compare_codes, compare_tensors
from qface_toolkit.sources import Crop
from qface_toolkit.times import TimeTable
from qface_toolkit.verifier import IMAGE


@dataclass(frozen=True)
class Lowered(Made):
    """A QuantizedModel; see Made."""

    model: QuantizedModel
    facts: Mapping[str, str]

    @classmethod
    def of(cls, model: QuantizedModel, facts: Mapping[str, str]) -> "Lowered":
        """Return a model as it is."""
        return cls(model, facts)

    @property
    def choices(self) -> Mapping[str, int]:
        """The options that a clock decided."""
        return self.model.choices

    @property
    def kept(self) -> tuple[str, ...]:
        """The layers that its ONNX forms keep in float."""
        return tuple(self.model.plan.kept)

    def keeping(self, count: int) -> "Lowered":
        """Return the same that keeps only the first so many of them."""
        return Lowered(self.model.with_kept(self.kept[:count]), self.facts)

    def step_files(self, number: int) -> Files:
        """Return its weights and its description."""
        return self._files(*_step_names(number))

    @classmethod
    def read(cls, number: int, path: Callable[[str], Path], facts: Mapping[str, str]) -> "Lowered":
        """Read both again; ranges may be missing yet."""
        weights, plain = map(path, _step_names(number))
        return cls(load_quantized(plain, weights, between_steps=True), facts)

    def source_files(self) -> Files:
        """Return its weights and its description."""
        return self._files(WEIGHTS, DESCRIPTION)

    def _files(self, weights: str, plain: str) -> Files:
        values = description(self.model) | {"facts": dict(self.facts)}
        text = json.dumps(values, separators=(",", ":")) + "\n"
        return {weights: weights_bytes(self.model), plain: text.encode()}

    def artifacts(self, backends: Sequence[str]) -> Iterator[tuple[str, Callable[[], bytes]]]:
        """Yield every backend's artifact."""
        for backend in map(BACKENDS.get, backends):
            yield backend.artifact, partial(backend.lower, self.model, self.facts)

    def golden(self, backend: Backend, inputs: Floats) -> Arrays:
        """Return what the artifact makes of inputs, what is inside it, and its pixels if it takes those."""
        arrays = expected_of(backend, self.model, inputs)
        pixels = takes_pixels(self.model, backend.target)
        return arrays | {IMAGE: self.model.spec.pixels_of(inputs)} if pixels else arrays

    def simulated(self, target: Target, inputs: Floats) -> Floats:
        """Return the embeddings of its integer program."""
        return embed_as_integers(self.model, target, inputs)

    def parameters(self, target: Target | None) -> Sequence[tuple[int, int]]:
        """Return those of the network with BatchNorm folded, at the width of the weights of their layer."""
        return [(count, FLOAT_BITS if target is None else self._bits(node, target)) for node, count in self._counted()]

    def _bits(self, node: str, target: Target) -> int:
        return FLOAT_BITS if self._has_floats(node, target) else self.model.scheme.weight_bits(node)

    def _has_floats(self, node: str, target: Target) -> bool:
        return self.model.plan.in_float(node, target) and not self.model.plan.keeps_codes

    def _counted(self) -> Iterator[tuple[str, int]]:
        """Yield the nodes that own parameters, and how many."""
        for node in self.model.network.graph.nodes:
            if node.op == "call_module":
                owner = self.model.network.get_submodule(node.target)
                if count := sum(parameter.numel() for parameter in owner.parameters()):
                    yield node.name, count

    def coded(self, target: Target) -> tuple[Sequence[Coded], int]:
        """Return the weights; biases, slopes and a scale and zero point a tensor stay float32."""
        model, coded = self.model, list[Coded]()
        for node in model.network.graph.nodes:
            if operation(node) in LAYERS and not self._has_floats(node.name, target):
                weight, bits = module(node).weight, model.scheme.weight_bits(node.name)
                coded.append(Coded(weight.numel(), bits, len(weight), zero_points=False))
        parameters = sum(parameter.numel() for parameter in model.network.parameters())
        return coded, parameters - sum(one.numbers for one in coded) + 2 * len(model.plan.tensors)

    def layer_names(self, backend: Backend) -> Mapping[str, str] | None:
        """Return those that the backend gives."""
        return backend.layer_names(self.model)

    def predicted(self, backend: Backend, times: TimeTable) -> Mapping[str, float] | None:
        """Return what the backend expects."""
        return backend.predict(self.model, times)

    def tensors(self, target: Target, inputs: Floats) -> tuple[TensorAgreement, ...]:
        """Compare what codes stand for with what the float network makes."""
        return compare_tensors(side_by_side(self.model, target, inputs), tensor_sources(self.model, target))

    def differing_codes(self, backend: Backend, artifact: Path, inputs: Floats) -> tuple[CodeDifference, ...]:
        """Compare the codes inside an artifact with those of its integer program."""
        program = program_of(self.model, backend.target.on(machine_here()))
        if not program.tensors:
            raise MeasurementError("all its tensors are float")
        simulated = list(Simulator(program).codes(inputs))
        whole = {name: np.concatenate([codes[name] for codes in simulated]) for name in simulated[0]}
        return compare_codes(whole, backend.codes(artifact, self.model, inputs))

    def sensitivity(
        self, target: Target, crops: Crop, images: tuple[int, int], multiply_adds: float
    ) -> Sensitivity | None:
        """Switch each quantizer of a target."""
        fewest, most = images
        count = affordable_images(self.model, target, most, multiply_adds)
        inputs = self.model.spec.preprocess(crops[:count])
        return None if count < fewest else measure_sensitivity(self.model, target, inputs)


def _step_names(number: int) -> tuple[str, str]:
    return f"work/step-{number}.safetensors", f"work/step-{number}.json"
