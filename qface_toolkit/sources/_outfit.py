"""Hair, beards, glasses, hats, clothes and backgrounds: what covers a face and must not be mistaken for it."""

import numpy as np

from qface_toolkit.sources._head import Scene
from qface_toolkit.sources._shapes import (
    Colour,
    Plane,
    bump,
    coverage,
    ellipse,
    linear,
    mixed,
    paint,
    ramp,
    tinted,
    unit,
)

HAIRS = (
    linear(26, 21, 20),
    linear(58, 38, 28),
    linear(96, 64, 40),
    linear(146, 104, 62),
    linear(206, 170, 112),
    linear(150, 72, 38),
    linear(150, 146, 142),
    linear(214, 210, 204),
)
EYE_ROW = -20.3


def hair_colour(scene: Scene) -> Colour:
    """Return the hair colour of the day: the person's own, another natural one or, now and then, any."""
    outfit = scene.shot.outfit
    if outfit.dye > 0.95:
        return any_colour(scene.rng)
    tone = outfit.hair_tone if outfit.dye > 0.6 else scene.identity.face.hair_tone
    place = tone * (len(HAIRS) - 1.001)
    return mixed(HAIRS[int(place)], HAIRS[int(place) + 1], place - int(place))


def any_colour(rng: np.random.Generator) -> Colour:
    """Return a colour from dark to light, seldom a strong one."""
    level = rng.random() * rng.random()
    red, green, blue = (level + (rng.random() - level) * 0.45 for _ in range(3))
    return red * red + 0.01, green * green + 0.01, blue * blue + 0.01


def draw_background(scene: Scene) -> None:
    """Paint what is behind the head: soft patches of light, sometimes shapes with edges, and clothes."""
    rng = scene.rng
    first, second = any_colour(rng), any_colour(rng)
    rows = 3 + int(rng.integers(8))
    patches = unit(scene.spread(rows, 3 + int(rng.integers(8))) * 0.8 + 0.5)
    paint(scene.albedo, first, np.ones(scene.canvas.shape, np.float32))
    paint(scene.albedo, second, patches)
    for _ in range(int(rng.integers(4))):
        _paint_block(scene)
    scene.albedo *= 1 + scene.spread(40, 40) * (0.3 * rng.random())
    _paint_clothes(scene)


def _paint_block(scene: Scene) -> None:
    rng = scene.rng
    lean, place = rng.random() * 2 - 1, rng.random() * 112 - 56
    across = scene.x + scene.y * lean - place
    band = np.minimum(across, 6 + 40 * rng.random() - across)
    paint(scene.albedo, any_colour(rng), coverage(band, 1 + 8 * rng.random()) * (0.4 + 0.6 * rng.random()))


def _paint_clothes(scene: Scene) -> None:
    rng = scene.rng
    slope = 0.15 + 0.4 * rng.random()
    shoulder = scene.y - 34 - 8 * rng.random() - (30 - np.abs(scene.x)) * slope
    weave = scene.spread(30, 50) * 0.25 + 1
    colour = np.array(any_colour(rng), np.float32).reshape(3, 1, 1) * weave
    scene.albedo += (colour - scene.albedo) * coverage(shoulder, 1.5)


def draw_hair_behind(scene: Scene, hair: Colour) -> None:
    """Paint the hair that the head hides in part."""
    outfit = scene.shot.outfit
    if outfit.style < 0.12:
        return
    volume = outfit.volume * (1.0 if outfit.style < 0.55 else 1.4)
    reach = -8.0 if outfit.style < 0.55 else 75.0
    wave = scene.spread(14, 14) * 2.5
    half = scene.identity.face.half_width
    cap = ellipse(scene.u, scene.v + 14, half + volume, 70 + volume)
    mass = np.where(scene.v < -14, cap * half * 0.5, half + volume - np.abs(scene.u))
    inside = np.minimum(mass + wave, reach - scene.v)
    _paint_strands(scene, hair, coverage(inside, 2.5), 0.75)


def _paint_strands(scene: Scene, hair: Colour, alpha: Plane, brightness: float) -> None:
    strands = scene.spread(7, 64) + 0.6 * scene.spread(30, 100)
    light = (1 + strands * scene.shot.outfit.streaks) * brightness
    colour = np.array(hair, np.float32).reshape(3, 1, 1) * np.maximum(light, 0.1)
    scene.albedo += (colour - scene.albedo) * alpha
    scene.height += strands * alpha * 0.5
    scene.gloss *= 1 - alpha * 0.7


def draw_hair_before(scene: Scene, hair: Colour) -> None:
    """Paint the hair that covers part of the head: hairline, fringe, temples."""
    outfit, face = scene.shot.outfit, scene.identity.face
    shade = tinted(scene.skin, (0.35, 0.33, 0.33))
    paint(scene.albedo, shade, bump(scene.u, scene.v - face.hairline - 2, 40, 7) * scene.head * 0.35)
    if outfit.style < 0.06:
        return
    line = _hairline(scene)
    ragged = scene.spread(5, 42) * (1.5 + 3 * outfit.fringe)
    inside = np.minimum(line + ragged - scene.v, scene.inside + 2.5)
    shaved = 0.55 if outfit.style < 0.12 else 1.0
    _paint_strands(scene, hair, coverage(inside, 2.2) * shaved, 1.0)


def _hairline(scene: Scene) -> Plane:
    outfit, face, u = scene.shot.outfit, scene.identity.face, scene.u
    side = np.abs(u)
    line = bump(u, u * 0, 10, 1) * face.widow_peak + face.hairline
    line += ramp(side, face.half_width - 12, face.half_width) * 30
    if outfit.fringe > 0.72:
        line = line + bump(u - outfit.part, u * 0, 60, 1) * (5 + 10 * (outfit.fringe - 0.72) / 0.28)
    elif outfit.fringe > 0.45:
        line = line + ramp(u * (1 if outfit.part > 0 else -1), -10, 34) * 13
    return line


def draw_beard(scene: Scene, hair: Colour) -> None:
    """Paint stubble or a beard on faces that grow one and were not shaved."""
    face, u, v = scene.identity.face, scene.u, scene.v
    strength = min(face.beard, 0.95) * 1.6 - 0.75
    if strength <= 0 or scene.shot.outfit.shave < 0.3:
        return
    side = np.abs(u)
    jaw = ramp(v + side * -0.35, -2, 12) * scene.head
    lips = coverage(ellipse(u, v - 21.5, 15, 6), 3)
    moustache = bump(u, v - 13.5, 17, 6)
    area = unit(jaw * ramp(side + (v - 14) * 0.6, 12, 22) + moustache * 1.6) * (1 - lips) * scene.head
    grain = scene.spread(100, 100) * 0.4 + 0.8
    alpha = unit(area * grain * strength * (scene.shot.outfit.shave * 1.4))
    paint(scene.albedo, tinted(hair, (0.8, 0.8, 0.8)), alpha)
    scene.height += alpha * grain * 0.8


def draw_glasses(scene: Scene) -> None:
    """Put glasses on about a quarter of all faces, seldom dark ones."""
    outfit = scene.shot.outfit
    if outfit.glasses > 0.26:
        return
    centre = 0.62 * outfit.lens_half_width + 9.6
    side = np.abs(scene.nose_u * 0.65 + scene.u * 0.35)
    a, b = (side - centre) * (1 / outfit.lens_half_width), (scene.v - EYE_ROW - 1) * (1 / outfit.lens_half_height)
    roundness = a * a * a * a + b * b * b * b if outfit.lens < 0.5 else a * a + b * b
    edge = (1 - roundness) * (0.25 * outfit.lens_half_height)
    tint = 0.75 if outfit.glasses < 0.02 else 0.06 + 0.12 * outfit.lens
    lens = coverage(edge)
    paint(scene.albedo, linear(40, 42, 46), lens * tint)
    colour = any_colour(scene.rng) if outfit.lens > 0.75 else linear(28, 24, 24)
    rim = unit(outfit.rim + 0.4 - np.abs(edge))
    bridge = unit(outfit.rim + 0.3 - np.abs(scene.v - EYE_ROW + 3)) * (side < centre - outfit.lens_half_width * 0.9)
    temple = unit(outfit.rim + 0.3 - np.abs(scene.v - EYE_ROW + 3)) * (side > centre + outfit.lens_half_width * 0.95)
    paint(scene.albedo, colour, unit(rim + bridge + temple * scene.head))
    scene.gloss += rim * 0.6


def draw_hat(scene: Scene) -> None:
    """Put a hat on about one face in eight, with the shadow that it throws."""
    outfit = scene.shot.outfit
    if outfit.hat > 0.13:
        return
    edge = outfit.hat_edge + scene.u * scene.u * 0.003
    over = edge - scene.v
    shadow = ramp(over, -14, 0) * (over < 0) * scene.head
    scene.albedo *= 1 - shadow * 0.55
    crown = np.minimum(over, scene.identity.face.half_width + 4 - np.abs(scene.u))
    alpha = coverage(crown, 1.3)
    knit = scene.spread(40, 40) * 0.2 + scene.spread(4, 4) * 0.3 + 1
    band = 0.6 if outfit.hat < 0.07 else 1.15
    colour = np.array(any_colour(scene.rng), np.float32).reshape(3, 1, 1) * (knit * np.where(over < 7, band, 1.0))
    scene.albedo += (colour.astype(np.float32) - scene.albedo) * alpha
    scene.height += alpha * ramp(over, 0, 3) * 2
