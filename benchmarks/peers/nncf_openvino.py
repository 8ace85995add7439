"""NNCF's post-training quantization of the float file, run in OpenVINO: the best int8 that x86 has to offer elsewhere.

Both of its presets are rows, since neither is the better one throughout; the rest is its defaults.
"""

from functools import partial
from pathlib import Path

from runtimes import OPENVINO

from peers._base import Made, Materials, Peer


def quantize(materials: Materials, folder: Path, preset: str) -> Made:
    """Quantize the float file with one preset."""
    import nncf
    import openvino

    images = nncf.Dataset([image[None] for image in materials.model.spec.preprocess(materials.crops)])
    model = openvino.Core().read_model(str(materials.float_file))
    wanted = nncf.QuantizationPreset(preset)
    made = nncf.quantize(model, images, preset=wanted, subset_size=len(materials.crops))
    openvino.save_model(made, folder / "nncf.xml", compress_to_fp16=False)
    return Made((folder / "nncf.xml", folder / "nncf.bin"), OPENVINO)


PEERS = tuple(
    Peer(f"NNCF {preset}", "NNCF", images, partial(quantize, preset=preset))
    for preset in ("performance", "mixed")
    for images in ("drawings", "faces")
)
