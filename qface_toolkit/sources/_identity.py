"""Who is drawn: what stays the same over all pictures of one identity, and which values are kept for testing.

The range of every attribute is cut into eight bands. Calibration identities use the even ones and held-out identities
the odd ones, so a model that was trained on the first has never seen an attribute value of the second.
"""

from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from qface_toolkit.sources._shapes import Plane, lattice

Attributes: TypeAlias = Literal["calibration", "heldout"]
"""Which half of every attribute's bands is used."""

BANDS = 8
BAND_MARGIN = 0.05
"""The share of a band left unused at either end, so that neighbouring bands do not touch."""

MARKS = 6
T = TypeVar("T")


def spans(low: float, high: float) -> Any:  # noqa: ANN401  a dataclass field takes the type of its annotation
    """Declare a drawn attribute and its range."""
    return field(metadata={"low": low, "high": high})


@dataclass(frozen=True)
class Mark:
    """A mole: where it sits on the face and how large and dark it is (lengths in pixels)."""

    u: float = spans(-30.0, 30.0)
    v: float = spans(-44.0, 34.0)
    radius: float = spans(1.1, 2.6)
    darkness: float = spans(0.5, 0.95)


@dataclass(frozen=True)
class Face:
    """The measures of one face: lengths in pixels around the middle of the nose, everything else as shares."""

    half_width: float = spans(33.5, 44.0)
    chin: float = spans(35.5, 48.5)
    jaw: float = spans(-0.15, 0.85)
    forehead: float = spans(0.92, 1.06)
    hairline: float = spans(-58.0, -40.0)
    widow_peak: float = spans(-6.0, 7.0)
    ear_size: float = spans(0.75, 1.3)
    cheekbone: float = spans(-1.0, 4.5)
    brow_ridge: float = spans(-0.5, 3.0)
    eye_socket: float = spans(0.5, 4.5)
    eye_spacing: float = spans(15.2, 20.0)
    eye_drop: float = spans(-1.5, 1.5)
    eye_half_width: float = spans(5.6, 9.4)
    eye_height: float = spans(2.0, 5.0)
    eye_tilt: float = spans(-0.22, 0.28)
    eye_round: float = spans(-0.45, 0.45)
    lower_lid: float = spans(1.2, 3.0)
    lid_crease: float = spans(0.0, 1.0)
    crease_height: float = spans(1.4, 4.2)
    lashes: float = spans(0.5, 1.5)
    iris: float = spans(2.9, 4.3)
    iris_tone: float = spans(0.0, 1.0)
    brow_gap: float = spans(7.0, 15.0)
    brow_inner: float = spans(4.5, 10.0)
    brow_length: float = spans(12.5, 21.0)
    brow_thickness: float = spans(0.9, 3.6)
    brow_arch: float = spans(-0.5, 5.0)
    brow_tilt: float = spans(-0.24, 0.28)
    brow_density: float = spans(0.45, 1.0)
    nose_length: float = spans(-4.0, 5.0)
    nose_half_width: float = spans(5.0, 11.5)
    nose_bridge: float = spans(2.4, 6.0)
    nose_height: float = spans(5.0, 11.0)
    nose_tip: float = spans(3.4, 6.6)
    nostril: float = spans(0.8, 2.0)
    philtrum: float = spans(0.0, 1.6)
    mouth_drop: float = spans(-3.0, 3.5)
    mouth_half_width: float = spans(9.5, 18.0)
    upper_lip: float = spans(1.3, 5.2)
    lower_lip: float = spans(1.8, 6.8)
    cupid: float = spans(0.0, 1.6)
    lip_tone: float = spans(0.0, 1.0)
    chin_bump: float = spans(-0.5, 4.0)
    chin_cleft: float = spans(-1.2, 1.2)
    fold: float = spans(0.0, 1.0)
    under_eye: float = spans(0.0, 1.0)
    wrinkles: float = spans(0.0, 1.0)
    blotches: float = spans(0.04, 0.2)
    freckles: float = spans(0.0, 1.0)
    tone: float = spans(0.0, 1.0)
    undertone: float = spans(-1.0, 1.0)
    hair_tone: float = spans(0.0, 1.0)
    beard: float = spans(0.0, 1.0)
    marks: float = spans(0.0, 1.0)


@dataclass(frozen=True)
class Identity:
    """One person: the measures, the moles and the fine pattern of the skin (float32 [40, 40])."""

    face: Face
    marks: tuple[Mark, ...]
    skin: Plane


def draw_identity(seed: int, number: int, attributes: Attributes) -> Identity:
    """Return identity `number` of this seed, with attribute values from one half of the bands."""
    rng = np.random.default_rng([seed, 1, number])
    face = drawn(Face, rng, attributes)
    present = 1 + int(face.marks * (MARKS - 1) + 0.5)
    marks = tuple(drawn(Mark, rng, attributes) for _ in range(present))
    return Identity(face, marks, lattice(rng, 40, 40))


def drawn(kind: type[T], rng: np.random.Generator, attributes: Attributes | None = None) -> T:
    """Return a dataclass of `spans` fields filled with random values, from all bands unless told which half."""
    values: dict[str, Any] = {}
    for attribute in fields(kind):  # type: ignore[arg-type]
        share = rng.random() if attributes is None else _share_in_bands(rng, attributes)
        low, high = attribute.metadata["low"], attribute.metadata["high"]
        values[attribute.name] = low + (high - low) * share
    return kind(**values)


def traits(identity: Identity) -> npt.NDArray[np.float32]:
    """Return the face's attributes as shares of their ranges around zero, float32 [attributes], -1..1."""
    values = [_share(attribute, getattr(identity.face, attribute.name)) for attribute in fields(Face)]
    return np.array(values, np.float32) * 2 - 1


def _share(attribute: Field[Any], value: float) -> float:
    low, high = attribute.metadata["low"], attribute.metadata["high"]
    return float((value - low) / (high - low))


def band_of(share: float) -> int:
    """Return the band that a value at this share of its range lies in, 0..7."""
    return min(int(share * BANDS), BANDS - 1)


def _share_in_bands(rng: np.random.Generator, attributes: Attributes) -> float:
    band = 2 * int(rng.integers(BANDS // 2)) + (attributes == "heldout")
    inside = BAND_MARGIN + (1 - 2 * BAND_MARGIN) * rng.random()
    return (band + inside) / BANDS
