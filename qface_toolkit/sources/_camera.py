"""Light and camera: what gives painted surfaces the contrast, blur, noise and blocks of a photograph."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from qface_toolkit.framing import rounded_mean
from qface_toolkit.sources._head import Scene
from qface_toolkit.sources._shapes import Canvas, Plane, filled, ramp, slopes, smoothed
from qface_toolkit.sources._shot import Camera, Light

Picture = Plane


def lit(scene: Scene) -> Picture:
    """Return the light that leaves the scene, linear, float32 [3, H, W]."""
    light = scene.shot.light
    diffuse, glance = _reflection(scene.height, light, scene.canvas.scale)
    body = smoothed(np.minimum(scene.head + (scene.height > 1), 1).astype(np.float32), 0.5)
    shadow = _thrown_shadow(scene, light)
    warm = filled((1 + 0.16 * light.warmth, 1.0, 1 - 0.22 * light.warmth))
    cool = filled((1 - 0.08 * light.sky, 1.0, 1 + 0.16 * light.sky))
    shade = warm * (diffuse * shadow * light.key) + cool * light.ambient
    flat = light.ambient + 0.55 * light.key
    picture = scene.albedo * (flat + (shade - flat) * body)
    picture += warm * (glance * shadow * scene.gloss * (body * light.key * light.gloss))
    return picture


def _reflection(height: Plane, light: Light, scale: float) -> tuple[Plane, Plane]:
    across, down = (slope * scale for slope in slopes(smoothed(height, 0.5)))
    across, down = np.clip(across, -2.5, 2.5), np.clip(down, -2.5, 2.5)
    length = 1 / np.sqrt(across * across + down * down + 1)
    towards = 1 / float(np.sqrt(light.across * light.across + light.down * light.down + 1))
    facing = (1 - across * light.across - down * light.down) * (length * towards)
    # Half-way between the light and the viewer; the fourth power twice gives a highlight of the right size.
    half = (1 + towards - across * (light.across * towards) - down * (light.down * towards)) * length
    half = half * (1 / float(np.sqrt(2 + 2 * towards)))
    gleam = half * half
    gleam = gleam * gleam * gleam * gleam
    gleam = gleam * gleam
    return np.maximum(facing, 0), gleam * gleam * 0.35


def _thrown_shadow(scene: Scene, light: Light) -> Plane:
    strength = max(0.0, light.shadow)
    edge = scene.u + scene.v * light.shadow_tilt - light.shadow_place
    return 1 - ramp(edge, -5, 5) * strength


def photographed(scene: Scene, picture: Picture) -> npt.NDArray[np.uint8]:
    """Return what the camera stores of the light that leaves a scene, uint8 [H, W, 3], RGB."""
    camera = scene.shot.camera
    seen = _vignetted(picture, camera, scene.canvas) * filled((camera.red, 1.0, camera.blue))
    seen = _blurred(np.sqrt(np.maximum(_exposed(seen, camera), 0)), camera)
    seen = _graded(seen, camera)
    seen += _grain(scene.rng, camera, picture.shape)
    stored = np.clip(seen * 255 + 0.5, 0, 255).astype(np.uint8)
    taken = _compressed(np.ascontiguousarray(stored.transpose(1, 2, 0)), camera)
    return rounded_mean(taken.astype(np.float32), scene.canvas.frame.oversampling)


def _vignetted(picture: Picture, camera: Camera, canvas: Canvas) -> Picture:
    columns, rows = canvas.places()
    right, down = (columns - 55.5) * (1 / 79), (rows - 55.5) * (1 / 79)
    return picture * (1 - (right * right + down * down) * camera.vignette)


def _exposed(picture: Picture, camera: Camera) -> Picture:
    gain = 0.5 + 0.5 * camera.exposure * camera.exposure + 0.42 * camera.exposure
    return picture * gain + camera.haze * (0.35 if camera.haze > 0 else 0.12)


def _graded(seen: Picture, camera: Camera) -> Picture:
    grey = (seen[0] * 0.3 + seen[1] * 0.59 + seen[2] * 0.11)[None]
    saturation = 0.0 if camera.grey < 0.06 else camera.saturation
    coloured = grey + (seen - grey) * saturation
    # Highlights roll off as film does instead of being cut.
    rolled = coloured * 1.12 / (1 + 0.12 * coloured * coloured)
    curved = rolled * rolled * (3 - 2 * np.minimum(rolled, 1.5))
    graded: Picture = rolled + (curved - rolled) * camera.contrast
    return graded


def _blurred(picture: Picture, camera: Camera) -> Picture:
    strength = camera.blur * camera.blur
    for _ in range(1 + int(strength * 3)):
        picture = smoothed(picture, 0.12 + 0.38 * min(1.0, strength * 2))
    return picture


def _grain(rng: np.random.Generator, camera: Camera, shape: tuple[int, ...]) -> Picture:
    strength = 0.005 + 0.04 * camera.noise * camera.noise * camera.noise
    grains = rng.integers(0, 256, (2, *shape), dtype=np.uint8).astype(np.float32)
    grain: Picture = (grains[0] + grains[1] - 255) * (strength / 104)
    return grain


def _compressed(stored: npt.NDArray[np.uint8], camera: Camera) -> npt.NDArray[np.uint8]:
    if camera.compressed < 0.25:
        return stored
    file = io.BytesIO()
    Image.fromarray(stored).save(file, "JPEG", quality=int(camera.quality))
    with Image.open(file) as image:
        return np.array(image.convert("RGB"))
