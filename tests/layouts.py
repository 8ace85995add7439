"""One network of each layout, for the slow tests: deeper ones of the same blocks prove nothing new."""

from qface_toolkit.models import ARCHITECTURES

DEEPER = {
    "adaface-ir34",
    "adaface-ir50",
    "adaface-ir101",
    "adaface-ir152",
    "adaface-irse101",
    "edgeface-base",
    "edgeface-s",
    "edgeface-xs",
    "ir101",
    "ir152",
    "iresnet34",
    "iresnet50",
    "iresnet100",
    "irse101",
    "irse152",
    "magface-iresnet50",
    "magface-iresnet100",
    "mobilefacenet-mbf-large",
    "pocketnet-m-256",
    "pocketnet-s-256",
}
"""Those that differ from another in depth or width alone; their keys and shapes are tested each by itself."""

LAYOUTS = tuple(name for name in ARCHITECTURES.names() if name not in DEEPER)
