"""MagFace (Meng et al., 2021, arXiv 2103.06627): an iResNet under the word `features`, as its inference network has it.

Its graph is that of `iresnet.py`, but for the epsilon of BatchNorm, and it was trained on other pixels (BGR, 0..1): so
it is told by its keys alone.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from qface_toolkit.models._architecture import Architecture, Shapes
from qface_toolkit.models.iresnet import IResNetPlan, read_iresnet

_EPSILON = 2e-5
_WORD = "features."


@dataclass(frozen=True)
class MagFacePlan:
    """The iResNet that stands inside."""

    inside: IResNetPlan

    @property
    def name(self) -> str:
        """The name of the iResNet, with MagFace's before it."""
        return f"magface-{self.inside.name}"

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input."""
        return self.inside.input_size

    @property
    def embedding_size(self) -> int:
        """How many numbers the embedding has; its length says how good the picture is."""
        return self.inside.embedding_size

    def build(self) -> nn.Module:
        """Return the network with fresh weights."""
        return MagFace(self.inside)


class MagFace(nn.Module):
    """The backbone alone; its classifier stays behind."""

    def __init__(self, plan: IResNetPlan) -> None:
        super().__init__()
        self.features = plan.build()
        for module in self.features.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eps = _EPSILON

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to embeddings [N, D], not normalised."""
        embeddings: Tensor = self.features(x)
        return embeddings


def read_magface(shapes: Shapes) -> MagFacePlan:
    """Read the plan of a `MagFace` off its keys and shapes."""
    inside = {key.removeprefix(_WORD): shape for key, shape in shapes.items() if key.startswith(_WORD)}
    return MagFacePlan(read_iresnet(inside))


ENTRIES = {
    plan.name: Architecture(
        published=plan,
        read=read_magface,
        source="MagFace, arXiv 2103.06627; layout of github.com/IrvingMeng/MagFace",
        mean=(0.0, 0.0, 0.0),
        std=(255.0, 255.0, 255.0),
        color="bgr",
        told_by_keys=True,
    )
    for plan in map(MagFacePlan, (IResNetPlan((2, 2, 2, 2)), IResNetPlan((3, 4, 14, 3)), IResNetPlan((3, 13, 30, 3))))
}
