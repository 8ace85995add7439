"""Genuinely wrong files, whose hashes fit: golden vectors tell each of them from the sound one."""

import numpy as np
import pytest
from quantized import smooth_images
from tiers import named_in_tiers
from wrong_files import OF_INTEGERS, WITH_ISLANDS, write_wrong

from qface_toolkit import verifier
from qface_toolkit.backends import BACKENDS

CASES = {
    "a network": (OF_INTEGERS[:1], ("onnx-x86",), 2),
    "islands": (WITH_ISLANDS[:1], ("onnx-arm",), 1),
    "all networks": (OF_INTEGERS, ("onnx-x86", "onnx-arm"), 2),
    "packed": (OF_INTEGERS[:2], ("onnx-packed-x86",), 2),
    "all islands": (WITH_ISLANDS, ("onnx-x86",), 2),
}
UNSEEN = 0.02
"""The share of wrong files with islands in which no more changes than a few roundings of floats could."""


@pytest.mark.parametrize(("networks", "backends", "changes"), named_in_tiers(CASES, fast=["a network"]))
def test_wrong_files_differ(networks, backends, changes, tmp_path):
    write_wrong(tmp_path, networks, backends, changes)
    folders = [path for path in sorted(tmp_path.iterdir()) if path.is_dir()]
    assert check_verdicts(tmp_path, {folder.name: vars(verifier.verify(folder).files[0]) for folder in folders}) > 10


def check_verdicts(root, told):
    """Check what was told of the file in each folder, by the folder's name; return how many were told to be wrong."""
    verdicts = {name: file["verdict"] for name, file in told.items()}
    sound = [name for name in told if name.startswith("sound ")]
    assert {verdicts[name] for name in sound} == {"exact"}
    wrong = [name for name, file in told.items() if file["verdict"] == "differs" or file["refused"]]
    exact = [name for name in told if verdicts[name] == "exact" and name not in sound]
    unseen = [name for name in told if verdicts[name] == "agrees"]
    unseen += [name for name in exact if not changes_nothing(root / name, told[name]["name"])]
    assert sorted([*sound, *wrong, *exact]) == sorted(name for name in told if verdicts[name] != "agrees")
    assert all(name.split(",")[0] in WITH_ISLANDS for name in unseen), unseen
    assert len(unseen) <= UNSEEN * len(wrong), unseen
    return len(wrong)


def changes_nothing(folder, file):
    """Tell whether a file gives the embeddings of the sound one on other images, too.

    Some changes do: of a channel that never counts, of a weight or a bias in it.
    """
    network, backend, _ = folder.name.split(", ")
    runner, sound = BACKENDS.get(backend), folder.parent / f"sound {network}, {backend}"
    size = runner.image_input(folder / file, runner.read(folder / file)).size
    images = smooth_images(size, 64, seed=99)
    return np.array_equal(*(runner.open(place / file, threads=1)(images) for place in (folder, sound)))
