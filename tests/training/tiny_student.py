"""Trainings that take a second: six people of flat colours, and a narrow student that learns from the demo model."""

import numpy as np
from PIL import Image

STUDENT = "mobilefacenet"
SMALL = (
    "width=0.125",
    "epochs=2",
    "batch_size=4",
    "checkpoint_steps=2",
    "optimizer.learning_rate=0.01",
    "data.held_out=2",
)
STEPS = 2 * 4
"""Four people of four images are learnt from twice, four images at a time."""


def people(folder, identities=6, images=4):
    """Write a folder of so many people, each of a colour of their own, and return it."""
    rng = np.random.default_rng(0)
    for number, colour in enumerate(rng.integers(30, 220, (identities, 1, 1, 3))):
        (folder / f"person{number}").mkdir(parents=True)
        for image in range(images):
            pixels = np.clip(colour + rng.normal(0, 25, (112, 112, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"person{number}" / f"{image}.png")
    return folder


def options(folder, *sets, teachers=("demo",)):
    """Return what `train` takes for a small training of the people in a folder."""
    return {"teachers": teachers, "data": folder, "sets": (*SMALL, *sets), "threads": 1}
