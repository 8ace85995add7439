"""The page about the Raspberry Pi: what it has you write runs on the CPU of a Pi 4."""

import numpy as np
import pytest
from documents import ROOT, blocks
from PIL import Image

pytestmark = pytest.mark.arm


def test_from_a_crop_to_an_embedding(arm, demo, tmp_path):
    (block,) = blocks(ROOT / "docs" / "raspberry-pi.md", "python")
    (tmp_path / "out").symlink_to(demo)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)).save(tmp_path / "enrolled.png")
    (tmp_path / "embed.py").write_text(block.text)
    assert arm.run("cortex-a72", "embed.py", cwd=tmp_path).stdout == block.said
