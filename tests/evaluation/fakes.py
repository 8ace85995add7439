"""Images and a model that cost nothing: crops made of their index, and embeddings that are sums of pixels."""

import hashlib
import threading

import numpy as np

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation import Embedder
from qface_toolkit.framing import STANDARD
from qface_toolkit.models import ModelSpec

SPEC = ModelSpec("fake", (112, 96), 4)


class FakeImages:
    """Random crops; `broken` raises, `decoded` and `threads` say what was asked for and by whom."""

    def __init__(self, count, broken=None, first=0):
        self.count, self.broken, self.first = count, broken, first
        self.decoded, self.threads = [], set()

    def __len__(self):
        return self.count

    def crop(self, index, frame=STANDARD):
        self.decoded.append(index)
        self.threads.add(threading.current_thread().name)
        if index == self.broken:
            raise MeasurementError("an image cannot be decoded", where=self.name(index))
        return np.random.default_rng(index + self.first).integers(0, 256, (*frame.size, 3), np.uint8)

    def name(self, index):
        return f"image {index} of fake.bin"

    def digest(self, index):
        return hashlib.sha256(b"%d" % (index + self.first)).hexdigest()


class FakeModel:
    """How much the quarters of the left half of the input vary, which differs in a mirrored image."""

    def __init__(self, change=lambda rows, calls: rows):
        self.calls, self.change = [], change

    def __call__(self, inputs):
        self.calls.append(len(inputs))
        left = inputs[:, 0, :, :48].reshape(len(inputs), 4, -1)
        return self.change(left.std(axis=2, dtype=np.float64).astype(np.float32), len(self.calls))

    def opened(self, **facts):
        """Return the model as an evaluation takes it."""
        usual = {"run": self, "spec": SPEC, "name": "fake.onnx", "sha256": "ab", "runtime": "fake 1"}
        return Embedder(**usual | facts)
