"""Groups by skin tone: of photographs by what their cheeks show, of drawings by the colour they were drawn with."""

import numpy as np

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation.groups import Groups
from qface_toolkit.evaluation.people import PeopleSet
from qface_toolkit.evaluation.synthetic import HELD_OUT
from qface_toolkit.scoring.skin_tone import TONES, angles_of_drawn, tones_of, typology_angle
from qface_toolkit.sources import find_set

BY_TONE = "ita"
"""What a user writes in place of a table."""
MOST_WITHOUT_SKIN = 0.15
"""Share of the images whose cheeks may be no skin: in aligned photographs two of a hundred, black-and-white ones most
of them; in crops that are cut elsewhere a third."""
_NAMES = tuple(tone.name for tone in TONES)


def tones_of_photographs(people: PeopleSet) -> Groups:
    """Return the group of each image by the typology angle of its cheeks (see scoring.skin_tone).

    Raises:
        MeasurementError: if so many cheeks are no skin that the crops cannot be the aligned ones, or an image cannot be
            read.
    """
    angles = np.array([typology_angle(people.images.crop(index)) for index in range(len(people.images))])
    without = int(np.isnan(angles).sum())
    if without > MOST_WITHOUT_SKIN * len(angles):
        raise MeasurementError(
            f"where the cheeks stand in an aligned crop, {without} of {len(angles)} images have no colour of skin",
            where=str(people.description.get("name", "")),
            fix="give colour crops, RGB, aligned to the usual five points, or a CSV of groups",
        )
    left = f"{without} of {len(angles)} images are in no group by skin tone: their cheeks have no colour of skin"
    return Groups(_NAMES, tones_of(angles), (left,) if without else ())


def drawn_tones(people: PeopleSet) -> Groups:
    """Return the group of each drawing of `synthetic_people`, of its own seed, by the skin of its person."""
    return Groups(_NAMES, tones_of(angles_of_drawn(find_set(HELD_OUT), len(people.people)))[people.owners])
