"""Embed drawings with what a job wrote, as fast as each runtime does it on so many threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from qface_toolkit.backends import Embed, Runner
from qface_toolkit.models import ModelSpec
from qface_toolkit.sources import Crop

BATCH_SIZE = 8

Floats = npt.NDArray[np.float32]


def embed_crops(run: Embed, spec: ModelSpec, crops: Crop, workers: int = 1) -> Floats:
    """Return a model's embeddings of crops; only a batch of them for each worker is preprocessed at a time."""
    batches = [crops[start : start + BATCH_SIZE] for start in range(0, len(crops), BATCH_SIZE)]
    if workers == 1:
        return np.concatenate([run(spec.preprocess(batch)) for batch in batches])
    with ThreadPoolExecutor(workers) as pool:
        return np.concatenate(list(pool.map(lambda batch: run(spec.preprocess(batch)), batches)))


def embed_file(file: Path, runner: Runner, spec: ModelSpec, crops: Crop, threads: int) -> Floats:
    """Return the embeddings that a file makes of crops.

    Where several threads may run one opened file, each gets batches of its own: threads that share a batch wait for
    each other at every operator.
    """
    if runner.runtime.concurrent:
        return embed_crops(runner.open(file, threads=1), spec, crops, workers=threads)
    run = runner.open(file, threads=threads)
    torch.set_num_threads(threads)
    return embed_crops(run, spec, crops)
