"""Who takes part in the head-to-head: one file a tool, one entry a row."""

from peers import float_files, nncf_openvino, onnxruntime_static, ours, quantface, torch_fx
from peers._base import Crops, Effort, Made, Materials, Peer

__all__ = ["Crops", "Effort", "Made", "Materials", "Peer", "all_peers"]


def all_peers(effort: Effort) -> tuple[Peer, ...]:
    """Return every row of the table, in its order."""
    return (
        *float_files.PEERS,
        *ours.peers(effort.recipes),
        *onnxruntime_static.PEERS,
        *nncf_openvino.PEERS,
        *torch_fx.PEERS,
        *quantface.PEERS,
    )
