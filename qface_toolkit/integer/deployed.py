"""A model in the form that a target runs, and what it is given there: preprocessed images, or the pixels themselves."""

import numpy as np
import numpy.typing as npt

from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.quantize.image_input import absorb_preprocessing, image_inputs, takes_pixels
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import Target


def as_deployed(
    model: QuantizedModel, target: Target, inputs: npt.NDArray[np.float32]
) -> tuple[QuantizedModel, npt.NDArray[np.float32]]:
    """Return the model that a target runs and what it is given of preprocessed images [N, 3, height, width].

    A form that takes pixels is given those that the images were made from.
    """
    if not takes_pixels(model, target):
        return model, inputs
    return absorb_preprocessing(model), image_inputs(model.spec, model.spec.pixels_of(inputs))


def embed_as_deployed(
    model: QuantizedModel, target: Target, inputs: npt.NDArray[np.float32], batch_size: int = 8
) -> npt.NDArray[np.float32]:
    """Return what a target computes, float32 [N, embedding], of preprocessed images [N, 3, height, width]."""
    run, given = as_deployed(model, target, inputs)
    return embed_as_integers(run, target, given, batch_size)
