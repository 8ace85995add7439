"""How far a step of a job is: states that a killed job goes on from, in its folder until the step is done."""

from torch import nn

from qface_toolkit.errors import ArtifactError
from qface_toolkit.result.folder import OutputFolder
from qface_toolkit.untrusted.reading import read_file


class StepStates:
    """The states of one training step; see training.course.Keeper."""

    def __init__(self, folder: OutputFolder, number: int) -> None:
        self.folder, self.kind = folder, f"step-{number}-state"

    def load(self) -> tuple[bytes, str] | None:
        """Return the last whole state and where it stands, or None."""
        latest = self.folder.latest(self.kind)
        if latest is None:
            return None
        path = self.folder.path(self._name(int(latest.partition(" ")[2])))
        return read_file(path, path.stat().st_size, noun="state of a training", kind=ArtifactError), str(path)

    def save(self, step: int, state: bytes) -> None:
        """Keep a state, and drop the one before once it is there."""
        before = self.folder.latest(self.kind)
        self.folder.write(self._name(step), state)
        self.folder.mark(f"{self.kind} {step}", alone=True)
        if before is not None:
            self.folder.forget(before)

    def snapshot(self, epoch: int, network: nn.Module) -> str:
        """Keep no network of an epoch: the step's own result is what counts."""
        return ""

    def kept(self) -> str:
        """Return that no network is kept."""
        return ""

    def _name(self, step: int) -> str:
        return f"work/{self.kind}-{step}.safetensors"
