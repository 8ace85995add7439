"""TorchScript with torch's int8 kernels: what loads in a process that has torch and nothing else.

A quantized archive gives its right numbers only under the engine it was made for, set before `torch.jit.load`: weights
are packed for the engine at load. The archive says which in its extra file `qface.json`.
"""

import io
import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from qface_toolkit.backends._base import Backend, Content, Embed, Facts, ImageInput
from qface_toolkit.backends._torch_archive import read_archive, read_fusion, stated_input
from qface_toolkit.backends._torch_codes import read_torch_codes
from qface_toolkit.errors import ArtifactError
from qface_toolkit.integer.making import program_of
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.simulation import convert, prepare, torch_engine
from qface_toolkit.quantize.target import TORCH_FBGEMM, TORCH_ONEDNN, TORCH_QNNPACK, TORCH_X86, Target
from qface_toolkit.runtimes import TORCH
from qface_toolkit.runtimes.fusion import Fusion
from qface_toolkit.scoring.parity import Codes

EXTRA_FILE = "qface.json"
_WRITTEN_BY_TORCH = ("version", "byteorder", ".format_version", ".storage_alignment")
_COUNTER = re.compile(rb"[./]___torch_mangle_\d+")

# torch ships no types for these two.
_trace: Callable[..., torch.jit.ScriptModule] = torch.jit.trace
_load: Callable[..., torch.jit.ScriptModule] = torch.jit.load


@dataclass(frozen=True)
class TorchInt8(Backend):
    """TorchScript for one of torch's engines."""

    runtime = TORCH

    artifact: str
    engine: str
    target: Target

    def lower(self, model: QuantizedModel, facts: Facts) -> bytes:
        """Return a frozen TorchScript archive that takes any batch size."""
        self.check(self.artifact, model.scheme, model.network)
        simulation = prepare(model, self.target)
        probe = torch.zeros(1, *model.spec.input_shape)
        with torch.no_grad():
            simulation(probe)  # the weights' scales are those of the weights seen last
        with torch_engine(self.engine), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            converted = convert(simulation, self.target, self.engine)
            traced = torch.jit.freeze(_trace(converted.eval(), probe, check_trace=False))
            return _saved(traced, dict(facts) | {"engine": self.engine})

    def read(self, file: Path) -> Content:
        """Return an archive of ours, for whichever engine, whose program was read."""
        return read_archive(file, EXTRA_FILE)

    def image_input(self, file: Path, content: Content) -> ImageInput:
        """Return what the archive says that it takes."""
        return stated_input(content.facts, file)

    def open(self, file: Path, threads: int, content: Content | None = None) -> Embed:
        """Load an archive; its engine is set while loading and running, and put back."""
        engine = content.facts["engine"] if content else self.engine
        torch.set_num_threads(threads)
        with torch_engine(engine), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Once a process torch tells stderr that quantized tensors will go: let it do so where nobody hears it.
            torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.quint8)
            network = _loaded(file, content)

        def embed(inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            with torch_engine(engine), torch.inference_mode():
                embeddings: npt.NDArray[np.float32] = network(torch.from_numpy(inputs)).numpy()
                return embeddings

        return embed

    def codes(self, artifact: Path, model: QuantizedModel, inputs: npt.NDArray[np.float32]) -> dict[str, Codes]:
        """Return the codes that the archive itself computes."""
        with torch_engine(self.engine), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read_torch_codes(_load(str(artifact)), program_of(model, self.target), inputs)

    def inspect(self, file: Path) -> Fusion:
        """Return which operators work on codes, having read the archive's program before torch loads it."""
        content = self.read(file)
        with torch_engine(content.facts["engine"]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read_fusion(_loaded(file, content).graph)

    def version(self, content: Content | None = None) -> str:
        """Return torch, its version and the engine."""
        return f"{self.runtime} {torch.__version__} ({content.facts['engine'] if content else self.engine})"


def _loaded(file: Path, content: Content | None) -> torch.jit.ScriptModule:
    try:
        return _load(str(file) if content is None else io.BytesIO(content.data))
    except (RuntimeError, ValueError) as error:
        what = "torch cannot load the archive"
        raise ArtifactError(what, where=str(file), fix="copy it again, or make it again") from error


def _saved(traced: torch.jit.ScriptModule, facts: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer, _extra_files={EXTRA_FILE: json.dumps(facts, sort_keys=True)})
    return _without_history(buffer.getvalue())


def _without_history(archive: bytes) -> bytes:
    """Return an archive without torch's notes on its making: the call stack, paths included, and how many came before.

    They make two archives of the same network differ, and tell strangers about the machine.
    """
    source = torch._C.PyTorchFileReader(io.BytesIO(archive))
    stream = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(stream)
    # Under a version older than an operator torch would load that operator's predecessor.
    version = next(name for name in source.get_all_records() if name in ("version", ".data/version"))
    writer.set_min_version(int(source.get_record(version)))
    for name in source.get_all_records():
        if name.endswith(".debug_pkl") or name.startswith(".data/") or name in _WRITTEN_BY_TORCH:
            continue
        record = source.get_record(name)
        if name.endswith((".py", ".pkl")):
            record = _COUNTER.sub(b"", record)
        writer.write_record(_COUNTER.sub(b"", name.encode()).decode(), record, len(record))
    writer.write_end_of_file()
    return stream.getvalue()


ENTRIES = {
    f"torch-{engine}": TorchInt8(f"int8.{engine}.ts", engine, target)
    for engine, target in (
        ("x86", TORCH_X86),
        ("onednn", TORCH_ONEDNN),
        ("qnnpack", TORCH_QNNPACK),
        ("fbgemm", TORCH_FBGEMM),
    )
}
