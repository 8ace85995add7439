"""What is known of runtimes and of files in them: which operators run, what layers cost, how long a call takes.

The facts of a runtime stand here and not with its backend, because a report is read where the runtime is not installed.
"""

from dataclasses import dataclass

FLOAT_ARTIFACT, FAST_ARTIFACT = "float.onnx", "float.fast.onnx"
"""The float model as torch.onnx exports it, and the same function written for speed."""


@dataclass(frozen=True)
class Runtime:
    """A runtime as reports know it.

    `title` is its name for people. `float_name` says what the float model is that times are compared with there, and
    `fast_name` which float file is written for its speed, if any. Where it `simulates`, what is computed is what
    another runtime would give, and its speed says nothing. `concurrent` says that threads may run one opened file side
    by side.
    """

    name: str
    title: str
    float_name: str | None = None
    fast_name: str | None = None
    simulates: bool = False
    concurrent: bool = False

    def __str__(self) -> str:
        """Return the name that report.json has."""
        return self.name


ONNX_RUNTIME = Runtime("onnxruntime", "ONNX Runtime", FLOAT_ARTIFACT, FAST_ARTIFACT, concurrent=True)
TORCH = Runtime("torch", "torch", "float network, traced")
OPENVINO = Runtime("openvino", "OpenVINO", f"{FLOAT_ARTIFACT} in OpenVINO")
SIMULATION = Runtime("simulation", "simulation", simulates=True)

_KNOWN = {one.name: one for one in (TORCH, ONNX_RUNTIME, OPENVINO, SIMULATION)}


def runtime_of(name: str) -> Runtime:
    """Return the runtime of a name in a report; of one that is not known here, what can be said of any."""
    return _KNOWN.get(name, Runtime(name, name))
