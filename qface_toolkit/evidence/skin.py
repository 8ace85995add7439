"""What a file loses on drawn people of dark, medium and light skin."""

import numpy as np
import numpy.typing as npt

from qface_toolkit.result.golden import HELD_OUT
from qface_toolkit.scoring.groups import GroupLoss, losses_by_group
from qface_toolkit.scoring.resampling import draw_people
from qface_toolkit.scoring.skin_tone import angles_of_drawn, broad_tone
from qface_toolkit.sources import find_set

LEAST_PEOPLE = 8
"""Drawn people of a tone: every one has eight pictures in as many lights."""


def tone_losses(cosines: npt.NDArray[np.float64]) -> tuple[GroupLoss, ...]:
    """Return the losses of broad skin tones, of the cosines of the first held-out drawings; none if they are few."""
    drawn = find_set(HELD_OUT)
    owners = np.arange(len(cosines)) // int(drawn.parameters["images_per_identity"])
    people = int(owners[-1]) + 1
    tones = np.array([broad_tone(angle) for angle in angles_of_drawn(drawn, people)])
    return losses_by_group(cosines, owners, tones[owners].tolist(), draw_people(people), LEAST_PEOPLE)
