"""What the report says about the channels that a step took out, and what it told while it did."""

import json
from collections.abc import Callable
from pathlib import Path

from qface_toolkit.evidence.allocation import record_file
from qface_toolkit.report.pruning import LayerChannels, PruningBlock


def pruning_block(path: Callable[[str], Path]) -> PruningBlock | None:
    """Return what the report says about the channels that went, if any did."""
    record = path(record_file("narrowed"))
    if not record.is_file():
        return None
    told = json.loads(record.read_text())
    channels = told.pop("channels")
    layers = tuple(LayerChannels(name=name, before=before, after=after) for name, (before, after) in channels.items())
    return PruningBlock(**told, layers=layers)
