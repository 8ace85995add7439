"""The program that `measure.load` starts for each load: it loads one ONNX file and prints what that took, as JSON.

It imports ONNX Runtime and as little else as can be, since what is imported counts as held before the load.
"""

import json
import sys

import onnxruntime

from qface_toolkit._memory import peak_memory_bytes
from qface_toolkit.measure.latency import time_once

SIGNED = "signed"


def main() -> None:
    """Load the file named first; "signed" behind it lets signed activations run on integers, as elsewhere here."""
    file, *flags = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if SIGNED in flags:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    sessions = []
    bare = peak_memory_bytes()
    taken_ms = time_once(
        lambda: sessions.append(onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"]))
    )
    sys.stdout.write(json.dumps({"ms": taken_ms, "bytes": peak_memory_bytes() - bare}))
