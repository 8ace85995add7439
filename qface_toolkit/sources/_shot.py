"""What changes from one picture of a person to the next: pose, expression, light, hair, clothes and camera."""

from dataclasses import dataclass

import numpy as np

from qface_toolkit.sources._identity import drawn, spans


@dataclass(frozen=True)
class Pose:
    """How the head is held and how well the crop is aligned; angles as tangents or sines, shifts in pixels."""

    roll: float = spans(-0.035, 0.035)
    yaw: float = spans(-0.32, 0.32)
    pitch: float = spans(-0.15, 0.15)
    scale: float = spans(0.96, 1.04)
    shift_across: float = spans(-1.5, 1.5)
    shift_down: float = spans(-1.5, 1.5)


@dataclass(frozen=True)
class Expression:
    """What the face does; shares unless they are lengths in pixels."""

    smile: float = spans(-1.3, 3.5)
    smile_wide: float = spans(-1.0, 1.0)
    opening: float = spans(-5.0, 4.5)
    squint: float = spans(0.55, 1.15)
    gaze_across: float = spans(-2.2, 2.2)
    gaze_down: float = spans(-0.9, 0.9)
    brow_raise: float = spans(-1.4, 1.4)
    frown: float = spans(-1.0, 1.0)


@dataclass(frozen=True)
class Light:
    """Where the light comes from, how hard it is and what colour it has."""

    across: float = spans(-1.4, 1.4)
    down: float = spans(-1.1, 0.5)
    key: float = spans(0.35, 1.2)
    ambient: float = spans(0.2, 0.6)
    warmth: float = spans(-1.0, 1.0)
    sky: float = spans(-1.0, 1.0)
    gloss: float = spans(0.0, 1.0)
    shadow: float = spans(-0.9, 0.65)
    shadow_tilt: float = spans(-1.5, 1.5)
    shadow_place: float = spans(-30.0, 30.0)


@dataclass(frozen=True)
class Outfit:
    """Hair, beard, glasses, hat, clothes and make-up of the day; choices are taken from shares."""

    style: float = spans(0.0, 1.0)
    volume: float = spans(1.0, 12.0)
    hair_tone: float = spans(0.0, 1.0)
    dye: float = spans(0.0, 1.0)
    streaks: float = spans(0.15, 0.6)
    fringe: float = spans(0.0, 1.0)
    part: float = spans(-16.0, 16.0)
    shave: float = spans(0.0, 1.0)
    tan: float = spans(-0.1, 0.1)
    lipstick: float = spans(0.0, 1.0)
    lip_hue: float = spans(0.0, 1.0)
    glasses: float = spans(0.0, 1.0)
    rim: float = spans(0.5, 1.9)
    lens: float = spans(0.0, 1.0)
    lens_half_width: float = spans(10.0, 13.5)
    lens_half_height: float = spans(7.0, 11.0)
    hat: float = spans(0.0, 1.0)
    hat_edge: float = spans(-46.0, -35.0)


@dataclass(frozen=True)
class Camera:
    """Exposure, white balance, sharpness, noise and compression."""

    exposure: float = spans(0.0, 1.0)
    contrast: float = spans(-0.35, 0.45)
    red: float = spans(0.8, 1.22)
    blue: float = spans(0.76, 1.28)
    saturation: float = spans(0.45, 1.3)
    grey: float = spans(0.0, 1.0)
    blur: float = spans(0.0, 1.0)
    noise: float = spans(0.0, 1.0)
    vignette: float = spans(0.0, 0.5)
    haze: float = spans(-0.1, 0.1)
    quality: float = spans(28.0, 97.0)
    compressed: float = spans(0.0, 1.0)


@dataclass(frozen=True)
class Shot:
    """One occasion on which a person is drawn."""

    pose: Pose
    expression: Expression
    light: Light
    outfit: Outfit
    camera: Camera


def draw_shot(rng: np.random.Generator) -> Shot:
    """Return a random occasion."""
    return Shot(drawn(Pose, rng), drawn(Expression, rng), drawn(Light, rng), drawn(Outfit, rng), drawn(Camera, rng))
