"""How near a model comes to the float model on calibration images that a method has not learned from: the last ones."""

import numpy as np
import numpy.typing as npt

from qface_toolkit.methods._base import Context
from qface_toolkit.methods._services import Reference
from qface_toolkit.quantize.image_input import as_deployed
from qface_toolkit.quantize.model import QuantizedModel, embed
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.scoring.agreement import row_cosines

_SHARE, _MOST = 8, 64


def held_out_count(images: int) -> int:
    """Return how many of so many calibration images are held out: an eighth, 64 at most, one at least."""
    return min(max(images // _SHARE, 1), _MOST)


class HeldOut:
    """The images [N, C, height, width] that are held out, and what the float model makes of them."""

    def __init__(self, model: QuantizedModel, context: Context) -> None:
        self.context = context
        self.images = context.inputs[-held_out_count(len(context.inputs)) :]
        self.expected = (context.service(Reference) or model).embed(self.images)

    def cosines(self, model: QuantizedModel) -> npt.NDArray[np.float64]:
        """Return the cosine to float of each image, the model simulated as the context's target runs it."""
        run, given = as_deployed(model, self.context.target, self.images)
        return row_cosines(self.expected, embed(prepare(run, self.context.target), given, self.context.batch_size))

    def cautious_cosine(self, model: QuantizedModel) -> float:
        """Return the mean of the cosines less its standard error: other images shall mostly reach it, too."""
        cosines = self.cosines(model)
        return float(cosines.mean() - cosines.std() / np.sqrt(len(cosines)))
