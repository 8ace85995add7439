"""Faces drawn with numpy and pillow: calibration images that contain no real face and that anybody can make again.

Every picture depends on the seed and its index alone, the person in it on the seed and the identity's number, so sets
can be drawn in any order and grown at will. The statistics that matter to a network's activations (contrast, skin
tones, light, texture, noise, compression) are varied as photographs vary them.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
from pydantic import BaseModel, ConfigDict, Field

from qface_toolkit.framing import STANDARD, Frame
from qface_toolkit.sources._base import Crop, Provenance
from qface_toolkit.sources._camera import lit, photographed
from qface_toolkit.sources._features import draw_features
from qface_toolkit.sources._head import draw_head, set_up, skin_colour
from qface_toolkit.sources._identity import Attributes, Identity, draw_identity
from qface_toolkit.sources._outfit import (
    draw_background,
    draw_beard,
    draw_glasses,
    draw_hair_before,
    draw_hair_behind,
    draw_hat,
    hair_colour,
)
from qface_toolkit.sources._shapes import Canvas
from qface_toolkit.sources._shot import draw_shot

if TYPE_CHECKING:
    from qface_toolkit.models import FloatModel

PINNED_VERSIONS = {"numpy": "2.4.6", "pillow": "13.0.0"}
"""The versions that the pixels are known to be the same with, on every machine kind."""


class ProceduralOptions(BaseModel):
    """What can be asked of the drawings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images_per_identity: int = Field(default=1, ge=1, description="pictures of one person that follow each other")
    attributes: Attributes = Field(
        default="calibration",
        description="which half of every attribute's values is used; models are tested on the half they never saw",
    )


class Drawings:
    """A set of drawings; see ImageSet."""

    def __init__(self, options: ProceduralOptions, *, count: int, seed: int, frame: Frame = STANDARD) -> None:
        self._options = options
        self._count = count
        self._seed = seed
        self._frame = frame

    def __len__(self) -> int:
        """Return how many drawings there are."""
        return self._count

    def crop(self, index: int) -> Crop:
        """Draw one picture in the frame, uint8 [H, W, 3], RGB."""
        number = index // self._options.images_per_identity
        return draw(self._seed, index, _identity(self._seed, number, self._options.attributes), self._frame)


class Procedural:
    """The calibration source of drawn faces; see Source."""

    options: type[BaseModel] = ProceduralOptions

    def provenance(
        self,
        options: Any,  # noqa: ANN401  see Source
        *,
        count: int,
        model: "FloatModel | None" = None,
    ) -> Provenance:
        """Return a warning for each library whose version may draw other pixels."""
        return Provenance(contains_no_real_face_data=True, warnings=version_warnings())

    def open(
        self,
        options: Any,  # noqa: ANN401  see Source
        *,
        count: int,
        seed: int,
        model: "FloatModel | None" = None,
        frame: Frame = STANDARD,
    ) -> Drawings:
        """Return a set of `count` drawings; nothing is drawn before it is asked for."""
        return Drawings(options, count=count, seed=seed, frame=frame)


@lru_cache(maxsize=64)
def _identity(seed: int, number: int, attributes: Attributes) -> Identity:
    return draw_identity(seed, number, attributes)


def draw(seed: int, index: int, identity: Identity, frame: Frame = STANDARD) -> Crop:
    """Draw picture `index` of this seed, showing `identity`, in a frame, uint8 [H, W, 3], RGB.

    Another frame shows the same person on the same occasion, with grain and compression of its own.
    """
    rng = np.random.default_rng([seed, 2, index])
    scene = set_up(identity, draw_shot(rng), rng, Canvas(frame))
    hair = hair_colour(scene)
    draw_background(scene)
    draw_hair_behind(scene, hair)
    draw_head(scene)
    draw_features(scene, hair)
    draw_beard(scene, hair)
    draw_hair_before(scene, hair)
    draw_glasses(scene)
    draw_hat(scene)
    return photographed(scene, lit(scene))


def drawn_skin(seed: int, number: int, attributes: Attributes) -> tuple[float, float, float]:
    """Return the colour of the skin of identity `number` of this seed, before any light: RGB as displayed, 0..255."""
    red, green, blue = skin_colour(_identity(seed, number, attributes).face)
    return 255 * red**0.5, 255 * green**0.5, 255 * blue**0.5


def version_warnings() -> tuple[str, ...]:
    """Return one line for each library whose version is not the pinned one."""
    found = {"numpy": np.__version__, "pillow": PIL.__version__}
    return tuple(
        f"drawn with {name} {found[name]}; the pixels are known for {pinned}"
        for name, pinned in PINNED_VERSIONS.items()
        if found[name] != pinned
    )


ENTRIES = {"procedural": Procedural()}
