"""Eyes, brows, nose and mouth: the parts whose shape tells one identity from another."""

import numpy as np

from qface_toolkit.sources._head import Scene
from qface_toolkit.sources._shapes import (
    Colour,
    Plane,
    bump,
    coverage,
    ellipse,
    linear,
    looked_up,
    mixed,
    paint,
    ramp,
    tinted,
    unit,
)

EYE_ROW = -20.3
MOUTH_ROW = 20.6
IRISES = (linear(92, 122, 150), linear(96, 118, 84), linear(122, 88, 52), linear(78, 48, 28), linear(36, 24, 18))
WHITE = linear(226, 220, 214)
BLACK = linear(22, 17, 16)
LIPSTICKS = (linear(170, 40, 52), linear(150, 60, 74), linear(196, 92, 96), linear(112, 36, 48))


def draw_features(scene: Scene, hair: Colour) -> None:
    """Paint all features of the face; `hair` is the colour of brows and lashes."""
    for side in (-1, 1):
        _draw_eye(scene, side)
        _draw_brow(scene, side, hair)
    _draw_nose(scene)
    _draw_mouth(scene)


def _draw_eye(scene: Scene, side: int) -> None:
    face, expression = scene.identity.face, scene.shot.expression
    out = (scene.u * side - face.eye_spacing) * (1 / face.eye_half_width)
    down = scene.v - EYE_ROW - face.eye_drop + out * (face.eye_tilt * face.eye_half_width)
    arch = 1 - out * out
    upper = arch * (1 + out * face.eye_round) * (face.eye_height * expression.squint)
    lower = arch * (1 - out * face.eye_round * 0.5) * face.lower_lid
    opened = coverage(np.minimum(down + upper, lower - down)) * (arch > 0)
    _paint_lids(scene, arch, down + upper, lower - down)
    _paint_eyeball(scene, side, opened)
    lash = unit(face.lashes * 0.75 + 0.4 - np.abs(down + upper)) * ramp(arch, -0.08, 0.1)
    paint(scene.albedo, BLACK, lash * 0.85)


def _paint_lids(scene: Scene, arch: Plane, above: Plane, below: Plane) -> None:
    face = scene.identity.face
    dark = tinted(scene.skin, (0.42, 0.32, 0.3))
    crease = unit(1.1 - np.abs(above + face.crease_height)) * ramp(arch, -0.15, 0.4)
    paint(scene.albedo, dark, crease * face.lid_crease * 0.75)
    lid = ramp(above, -5, -1) * (above < 0) * ramp(arch, -0.3, 0.5)
    paint(scene.albedo, dark, lid * 0.3)
    paint(scene.albedo, dark, unit(0.9 - np.abs(below)) * ramp(arch, 0, 0.4) * 0.45)


def _paint_eyeball(scene: Scene, side: int, opened: Plane) -> None:
    face, expression = scene.identity.face, scene.shot.expression
    right = scene.u - side * face.eye_spacing - expression.gaze_across
    down = scene.v - EYE_ROW - face.eye_drop - expression.gaze_down + 0.6
    paint(scene.albedo, WHITE, opened * 0.92)
    place = face.iris_tone * 3.999
    colour = mixed(IRISES[int(place)], IRISES[int(place) + 1], place - int(place))
    limbus = coverage(ellipse(right, down, face.iris, face.iris))
    paint(scene.albedo, tinted(colour, (0.35, 0.35, 0.35)), limbus * opened)
    paint(scene.albedo, colour, coverage(ellipse(right, down, face.iris - 0.8, face.iris - 0.8)) * opened)
    pupil = face.iris * 0.45
    paint(scene.albedo, BLACK, coverage(ellipse(right, down, pupil, pupil)) * opened)
    shine = 1.2 if scene.shot.light.across > 0 else -1.2
    paint(scene.albedo, (1.0, 1.0, 1.0), bump(right - shine, down + 1.2, 1.5, 1.5) * opened)
    scene.gloss += opened * 0.5


def _draw_brow(scene: Scene, side: int, hair: Colour) -> None:
    face, expression = scene.identity.face, scene.shot.expression
    along = (scene.u * side - face.brow_inner) * (1 / face.brow_length)
    peak = along - 0.6
    line = peak * peak * (2.2 * face.brow_arch) + (EYE_ROW - face.brow_gap - expression.brow_raise - face.brow_arch)
    line = line - (along - 0.5) * (face.brow_tilt * face.brow_length) + (1 - along) * expression.frown
    thickness = face.brow_thickness * (1.15 - 0.75 * along)
    inside = np.minimum(thickness - np.abs(scene.v - line), np.minimum(along, 1 - along) * face.brow_length)
    hairs = 0.85 + 0.3 * looked_up(scene.identity.skin, scene.u * side * 2, scene.v * 0.5, 1.7)
    alpha = unit(coverage(inside, 1.8) * hairs * face.brow_density)
    paint(scene.albedo, tinted(hair, (0.7, 0.7, 0.7)), alpha)
    scene.height += alpha * 0.5


def _draw_nose(scene: Scene) -> None:
    face, u, v = scene.identity.face, scene.nose_u, scene.nose_v - scene.identity.face.nose_length
    side, wing = np.abs(u), face.nose_half_width
    bridge = face.nose_bridge + ramp(v, -20, 0) * (wing * 0.35)
    ridge = np.maximum(1 - (u / bridge) * (u / bridge), 0)
    rise = ramp(v, -26, 0) * ramp(v, 5, 1)
    scene.height += ridge * rise * (face.nose_height * 0.75)
    scene.height += bump(u, v + 1, face.nose_tip + 2, face.nose_tip + 1) * (face.nose_height * 0.6)
    scene.height += bump(side - wing * 0.75, v - 1, wing * 0.5, 5) * 2.6
    dark = tinted(scene.skin, (0.2, 0.11, 0.1))
    hole = coverage(ellipse(side - wing * 0.48, v - 4.2 + side * 0.12, wing * 0.27, face.nostril))
    paint(scene.albedo, dark, hole * 0.85)
    rim = ellipse(side - wing * 0.62, v - 1, wing * 0.44, 5.2)
    crease = unit(1 - np.abs(rim) * 2.2) * (side > wing * 0.6) * ramp(v, -4, 1)
    paint(scene.albedo, tinted(scene.skin, (0.45, 0.34, 0.32)), crease * 0.6)
    under = bump(u, v - 6.5, wing * 0.9, 3)
    paint(scene.albedo, tinted(scene.skin, (0.5, 0.4, 0.38)), under * 0.45)


def _draw_mouth(scene: Scene) -> None:
    face, expression = scene.identity.face, scene.shot.expression
    half = face.mouth_half_width + expression.smile_wide + 0.4 * expression.smile
    across = scene.u * (1 / half)
    square = across * across
    arch = np.maximum(1 - square, 0)
    gap = max(0.0, expression.opening)
    down = scene.v - MOUTH_ROW - face.mouth_drop + (square - 0.4) * expression.smile
    top = np.sqrt(arch) * arch * face.upper_lip - bump(scene.u, scene.u * 0, 4.5, 1) * face.cupid + arch * (gap * 0.4)
    bottom = arch * (face.lower_lip + gap * 0.7)
    lips = coverage(np.minimum(down + top, bottom - down)) * (arch > 0)
    paint(scene.albedo, _lip_colour(scene), lips * 0.88)
    scene.height += lips * 0.7 + bump(across, (down - bottom * 0.55) * 0.3, 0.8, 1) * 1.2
    scene.gloss += lips * 0.5
    _paint_mouth_line(scene, down, arch, gap)
    below = bump(scene.u, down - face.lower_lip - gap * 0.7 - 2.6, half * 0.7, 2.6)
    paint(scene.albedo, tinted(scene.skin, (0.55, 0.44, 0.42)), below * 0.45)


def _paint_mouth_line(scene: Scene, down: Plane, arch: Plane, gap: float) -> None:
    opened = coverage(np.minimum(down + arch * (gap * 0.4), arch * (gap * 0.6) - down)) * (arch > 0.02)
    if gap > 0.8:
        paint(scene.albedo, linear(70, 24, 24), opened)
        teeth = ramp(down - arch * (gap * 0.15), 0.6, -0.4) * ramp(arch, 0.15, 0.4)
        paint(scene.albedo, linear(232, 226, 212), opened * teeth)
    line = unit(1.15 - np.abs(down)) * ramp(arch, -0.02, 0.1)
    paint(scene.albedo, linear(60, 22, 22), line * (0.75 if gap <= 0.8 else 0.25))


def _lip_colour(scene: Scene) -> Colour:
    face, outfit = scene.identity.face, scene.shot.outfit
    tone = 0.9 - 0.35 * face.lip_tone
    natural = tinted(scene.skin, (tone, tone * 0.55, tone * 0.56))
    made_up = LIPSTICKS[int(outfit.lip_hue * 3.999)]
    return mixed(natural, made_up, max(0.0, outfit.lipstick * 2 - 1.2))
