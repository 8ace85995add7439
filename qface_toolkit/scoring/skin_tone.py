"""Skin tone from pixels: the individual typology angle (ITA) of the cheeks, a stand-in that light moves.

ITA = arctan((L - 50) / b) in degrees, in CIELAB (Chardon et al., Int. J. Cosmetic Science 13, 1991), cut into the six
classes that have become usual (Del Bino and Bernerd, British J. Dermatology 169, 2013). L and b are medians over two
patches where the cheeks stand in a crop aligned to the usual five points.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.sources import Crop, NamedSet
from qface_toolkit.sources.procedural import drawn_skin

Angles = npt.NDArray[np.float64]
"""Typology angles in degrees, [N]; NaN where there is no skin to be seen."""

ROWS, COLUMNS = slice(66, 80), (slice(28, 42), slice(70, 84))
"""The patches, of a crop of 112x112."""
LEAST_CHROMA, HUES = 6.0, (10.0, 95.0)
"""What colours of skin have in CIELAB: black-and-white photographs have no chroma, and the blue of a crop whose colours
are turned is no hue of skin. Two of a hundred aligned photographs are outside."""
BROAD = (("dark", -np.inf, 10.0), ("medium", 10.0, 41.0), ("light", 41.0, np.inf))
"""The classes two by two, where people are few."""
_WHITE = np.array([0.95047, 1.0, 1.08883])
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_BEND = (6 / 29) ** 3


@dataclass(frozen=True)
class Tone:
    """A class of skin tones: angles from `low` up to `high`, in degrees."""

    name: str
    low: float
    high: float


TONES = (
    Tone("ITA below -30", -np.inf, -30.0),
    Tone("ITA -30 to 10", -30.0, 10.0),
    Tone("ITA 10 to 28", 10.0, 28.0),
    Tone("ITA 28 to 41", 28.0, 41.0),
    Tone("ITA 41 to 55", 41.0, 55.0),
    Tone("ITA above 55", 55.0, np.inf),
)
"""From dark to light: dark, brown, tan, intermediate, light and very light."""


def typology_angle(crop: Crop) -> float:
    """Return the angle of an aligned crop, uint8 [112, 112, 3], RGB; NaN if the cheeks have no colour of skin."""
    patches = [crop[ROWS, columns].reshape(-1, 3) for columns in COLUMNS]
    return angle_of(np.median(to_lab(np.concatenate(patches)), axis=0))


def angle_of(lab: npt.NDArray[np.float64]) -> float:
    """Return the angle of a colour in CIELAB, [3]; NaN if it is none of skin."""
    lightness, red, yellow = map(float, lab)
    hue = np.degrees(np.arctan2(yellow, red))
    if np.hypot(red, yellow) < LEAST_CHROMA or not HUES[0] <= hue <= HUES[1]:
        return float(np.nan)
    return float(np.degrees(np.arctan((lightness - 50) / yellow)))


def to_lab(colours: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return display colours 0..255, [N, 3], in CIELAB for the white of daylight (D65)."""
    display = np.asarray(colours, np.float64) / 255
    light = np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)
    scaled = light @ _TO_XYZ.T / _WHITE
    bent = np.where(scaled > _BEND, np.cbrt(scaled), scaled / (3 * (6 / 29) ** 2) + 4 / 29)
    across = bent[:, :2] - bent[:, 1:]
    return np.stack([116 * bent[:, 1] - 16, 500 * across[:, 0], 200 * across[:, 1]], axis=1)


def angles_of_drawn(drawn: NamedSet, count: int) -> Angles:
    """Return the angle of the skin of the first so many identities of a set of drawings, [count]."""
    skins = [drawn_skin(drawn.seed, number, drawn.parameters["attributes"]) for number in range(count)]
    return np.array([angle_of(lab) for lab in to_lab(skins)])


def broad_tone(angle: float) -> str:
    """Return the name of the broad class of an angle; empty if there is none."""
    return next((name for name, low, high in BROAD if low <= angle < high), "")


def tones_of(angles: Angles) -> npt.NDArray[np.intp]:
    """Return the class of each angle as a place in TONES; -1 where there is none."""
    edges = np.array([tone.low for tone in TONES[1:]])
    return np.where(np.isnan(angles), -1, np.searchsorted(edges, angles, side="right"))
