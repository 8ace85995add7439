"""The head that everything else is drawn on: its pose, outline, skin and the relief that light falls on."""

from dataclasses import dataclass

import numpy as np

from qface_toolkit.sources._identity import Face, Identity
from qface_toolkit.sources._shapes import (
    Canvas,
    Colour,
    Plane,
    bump,
    coverage,
    ellipse,
    lattice,
    linear,
    looked_up,
    mixed,
    paint,
    ramp,
    stretched,
    tinted,
    unit,
)
from qface_toolkit.sources._shot import Pose, Shot

MIDDLE = (56.0, 71.7)
"""Column and row of the nose tip on the five-point template; face coordinates start here."""

CROWN = -94.0
CHEEK = -8.0
HEAD_DEPTH = 30.0
TURN = 34.0
"""How far, in pixels, the nearest point of the head moves against its rim when the head turns by a sine of one."""

TONES = (
    linear(250, 220, 198),
    linear(238, 196, 164),
    linear(220, 170, 132),
    linear(190, 138, 100),
    linear(146, 98, 68),
    linear(104, 68, 48),
    linear(70, 45, 34),
)


@dataclass
class Scene:
    """A drawing in the making; every plane is float32 [H, W], `albedo` is linear light [3, H, W].

    `u` and `v` are pixels from the middle of the nose on the surface of the turned head, `nose_u` and `nose_v` the
    same for what stands out from it, `x` and `y` in the picture.
    """

    identity: Identity
    shot: Shot
    rng: np.random.Generator
    canvas: Canvas
    x: Plane
    y: Plane
    u: Plane
    v: Plane
    nose_u: Plane
    nose_v: Plane
    inside: Plane
    head: Plane
    skin: Colour
    albedo: Plane
    height: Plane
    gloss: Plane

    def spread(self, rows: int, columns: int) -> Plane:
        """Return random values -1..1, so many down and across, spread smoothly over the whole picture."""
        return stretched(lattice(self.rng, rows, columns), self.canvas.shape)


def set_up(identity: Identity, shot: Shot, rng: np.random.Generator, canvas: Canvas) -> Scene:
    """Return the empty scene: coordinates, outline and colour of the head, nothing painted yet."""
    columns, rows = canvas.places()
    x, y = columns - MIDDLE[0], rows - MIDDLE[1]
    u, v, near_u, near_v = _turned(*_aligned(x, y, shot.pose), shot.pose)
    inside = _outline(u, v, identity.face)
    blank = np.zeros(canvas.shape, np.float32)
    return Scene(
        identity=identity,
        shot=shot,
        rng=rng,
        canvas=canvas,
        x=x,
        y=y,
        u=u,
        v=v,
        nose_u=near_u,
        nose_v=near_v,
        inside=inside,
        head=coverage(inside, 1.4),
        skin=skin_colour(identity.face, shot.outfit.tan),
        albedo=np.zeros((3, *canvas.shape), np.float32),
        height=blank,
        gloss=blank.copy(),
    )


def _aligned(x: Plane, y: Plane, pose: Pose) -> tuple[Plane, Plane]:
    # A half-angle tangent gives sine and cosine without calling a library that rounds differently elsewhere.
    below = 1 + pose.roll * pose.roll
    cosine, sine = (1 - pose.roll * pose.roll) / below / pose.scale, 2 * pose.roll / below / pose.scale
    moved_x, moved_y = x - pose.shift_across, y - pose.shift_down
    return moved_x * cosine + moved_y * sine, moved_y * cosine - moved_x * sine


def _turned(x: Plane, y: Plane, pose: Pose) -> tuple[Plane, Plane, Plane, Plane]:
    near = np.maximum(ellipse(x, y + 8, 46, 66), 0)
    narrow = 1 - 0.35 * pose.yaw * pose.yaw
    short = 1 - 0.3 * pose.pitch * pose.pitch
    u = (x - (near - 0.8) * (pose.yaw * TURN)) * (1 / narrow)
    v = (y - (near - 0.8) * (pose.pitch * TURN)) * (1 / short)
    return u, v, u - pose.yaw * 12, v - pose.pitch * 12


def _outline(u: Plane, v: Plane, face: Face) -> Plane:
    down = unit((v - CHEEK) * (1 / (face.chin - CHEEK)))
    up = unit((CHEEK - v) * (1 / (CHEEK - CROWN)))
    square = down * down
    pointed = np.sqrt(np.maximum(1 - square, 0)) * (1 - 0.26 * down)
    broad = np.sqrt(np.maximum(1 - square * square, 0))
    lower = pointed + (broad - pointed) * face.jaw
    domed = up * up * up
    upper = np.sqrt(np.maximum(1 - domed * domed, 0)) * (1 - (1 - face.forehead) * ramp(up, 0, 0.5))
    beyond = np.maximum(v - face.chin, 0) + np.maximum(CROWN - v, 0)
    width: Plane = lower * upper * face.half_width - np.abs(u) - beyond
    return width


def skin_colour(face: Face, tan: float = 0.0) -> Colour:
    """Return the colour of a face's skin, in linear light."""
    place = min(max(face.tone + tan, 0.0), 0.999) * (len(TONES) - 1)
    colour = mixed(TONES[int(place)], TONES[int(place) + 1], place - int(place))
    return tinted(colour, (1 + 0.05 * face.undertone, 1.0, 1 - 0.1 * face.undertone))


def draw_head(scene: Scene) -> None:
    """Paint ears, neck and skin, and raise the relief of the bare face."""
    _paint_neck(scene)
    _paint_ears(scene)
    paint(scene.albedo, scene.skin, scene.head)
    _raise_relief(scene)
    _paint_blood(scene)
    _paint_texture(scene)
    _paint_lines(scene)
    _paint_marks(scene)


def _paint_neck(scene: Scene) -> None:
    neck = coverage(np.minimum(27 - np.abs(scene.x), scene.y - 10), 1.5)
    shade = 0.55 - 0.2 * ramp(scene.y, 45, 30)
    scene.albedo += (np.array(scene.skin, np.float32).reshape(3, 1, 1) * shade - scene.albedo) * neck


def _paint_ears(scene: Scene) -> None:
    size = scene.identity.face.ear_size
    side = np.abs(scene.u) - scene.identity.face.half_width - 0.5
    ear = ellipse(side, scene.v + 12, 6 * size, 13 * size)
    inner = bump(side - 1, scene.v + 12, 4 * size, 9 * size)
    paint(scene.albedo, tinted(scene.skin, (0.9, 0.78, 0.75)), coverage(ear))
    paint(scene.albedo, tinted(scene.skin, (0.5, 0.36, 0.34)), inner * 0.6)


def _raise_relief(scene: Scene) -> None:
    face, u, v = scene.identity.face, scene.u, scene.v
    side = np.abs(u)
    round_head = np.maximum(ellipse(u, v + 15, face.half_width + 2, 72), 0.02)
    relief = np.sqrt(round_head) * HEAD_DEPTH
    relief += bump(side - 24, v + 2, 15, 13) * face.cheekbone
    relief += bump(side - 15, v + 31, 17, 7) * face.brow_ridge
    relief -= bump(side - face.eye_spacing, v + 21, 12, 9) * face.eye_socket
    relief += bump(side - face.eye_spacing, v + 20.5 - face.eye_drop, face.eye_half_width, 6) * 1.8
    relief += bump(u, v - (face.chin - 6), 13, 9) * face.chin_bump
    relief -= bump(u, v - (face.chin - 6), 2.5, 6) * face.chin_cleft
    relief += bump(u, v - 20, 22, 14) * 2.0
    relief -= bump(u, v - 13, 2.6, 6) * face.philtrum
    relief += bump(side - 20, v - 8, 12, 11) * max(scene.shot.expression.smile, 0.0) * 0.6
    scene.height += (relief - scene.height) * scene.head
    scene.gloss += scene.head * 0.5


def _paint_blood(scene: Scene) -> None:
    face, side = scene.identity.face, np.abs(scene.u)
    red = tinted(scene.skin, (0.98, 0.68, 0.66))
    paint(scene.albedo, red, bump(side - 23, scene.v - 3, 15, 13) * scene.head * 0.45)
    paint(scene.albedo, red, bump(scene.nose_u, scene.nose_v + 1, 9, 8) * scene.head * 0.4)
    dark = tinted(scene.skin, (0.62, 0.5, 0.54))
    bags = bump(side - face.eye_spacing, scene.v + 14.5, 10, 5)
    paint(scene.albedo, dark, bags * (0.15 + 0.5 * face.under_eye))


def _paint_texture(scene: Scene) -> None:
    face, skin = scene.identity.face, scene.identity.skin
    coarse = looked_up(skin, scene.u, scene.v, 3.1)
    fine = looked_up(skin, scene.v + 7, scene.u - 5, 1.55)
    scene.albedo *= 1 + (coarse * face.blotches + fine * (0.5 * face.blotches)) * scene.head
    spots = ramp(fine, 0.45, 0.85) * (bump(np.abs(scene.u) - 14, scene.v - 1, 26, 17) * scene.head)
    paint(scene.albedo, tinted(scene.skin, (0.55, 0.4, 0.3)), spots * max(0.0, face.freckles * 1.8 - 0.8))


def _paint_lines(scene: Scene) -> None:
    face, u, v = scene.identity.face, scene.u, scene.v
    side = np.abs(u)
    smiling = max(0.0, scene.shot.expression.smile) * 0.12
    run = v - 2
    bend = 10 + run * 0.42 - run * run * 0.006 + smiling * 6
    fold = unit(1 - np.abs(side - bend) * 0.55) * bump(run - 9, run * 0, 13, 1)
    dark = tinted(scene.skin, (0.5, 0.4, 0.38))
    paint(scene.albedo, dark, fold * min(0.8, 0.1 + 0.55 * face.fold + smiling))
    waves = v + 43 + side * side * 0.004
    crease = unit(1 - np.abs(waves) * 0.7) + unit(1 - np.abs(waves - 6) * 0.7)
    paint(scene.albedo, dark, crease * bump(u, v + 41, 28, 14) * (0.7 * face.wrinkles))


def _paint_marks(scene: Scene) -> None:
    for mark in scene.identity.marks:
        mole = coverage(ellipse(scene.u - mark.u, scene.v - mark.v, mark.radius, mark.radius))
        paint(scene.albedo, tinted(scene.skin, (0.3, 0.2, 0.17)), mole * scene.head * mark.darkness)
