"""A network as int8 computes it, to train: its fake quantizers round, its ranges stay, its weights learn."""

from torch import Tensor, nn

from qface_toolkit.quantize.simulation import Simulation


class RoundedNetwork(nn.Module):
    """A simulation as a network to train, which stays in evaluation mode: nothing in it may depend on the batch."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self.simulation = simulation.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to embeddings [N, D]."""
        embeddings: Tensor = self.simulation(x)
        return embeddings

    def train(self, mode: bool = True) -> "RoundedNetwork":
        """Stay in evaluation mode."""
        return super().train(False)
