"""Train the embedded demo model on drawn identities and measure it on identities whose attributes it never saw.

    python benchmarks/train_demo.py --work /tmp/demo --out qface_toolkit/models/demo.safetensors

It is `qface train` with the recipe drawn-people, on a network that no name stands for: a MobileFaceNet a quarter as
wide, with a tail of 256 channels. With --resume an interrupted run goes on where it was.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch

import qface_toolkit as qf
from qface_toolkit.models import STUDENT_FILE
from qface_toolkit.models.mobilefacenet import MobileFaceNetPlan, PReLUMobileFaceNet, published_bottlenecks
from qface_toolkit.scoring.identities import Verification, verify_identities
from qface_toolkit.sources import find_set, load_crops

WIDTH, HEAD, EMBEDDING_SIZE = 16, 256, 128
SEED = 1
PART = 100


def student() -> qf.FloatModel:
    """Return the demo network with fresh weights."""
    torch.manual_seed(SEED)
    bottlenecks = published_bottlenecks(WIDTH)
    plan = MobileFaceNetPlan(
        "demo", PReLUMobileFaceNet, stem=WIDTH, bottlenecks=bottlenecks, head=HEAD, embedding_size=EMBEDDING_SIZE
    )
    return qf.from_module(plan.build(), mean=127.5, std=128.0, name="mobilefacenet")


@torch.inference_mode()
def verify(model: qf.FloatModel) -> Verification:
    """Measure a model on drawn people whose attribute values training never used."""
    named = find_set("drawings-heldout")
    crops = load_crops(named.open())
    parts = [model.spec.preprocess(crops[start : start + PART]) for start in range(0, len(crops), PART)]
    embeddings = np.concatenate([model.network(torch.from_numpy(part)).numpy() for part in parts])
    labels = np.arange(len(crops)) // named.parameters["images_per_identity"]
    return verify_identities(embeddings, labels, fars=(1e-2, 1e-3))


def main() -> None:
    """Train, write, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for what the training writes")
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file to write")
    parser.add_argument("--set", dest="sets", action="append", default=[], help="change a value of the recipe")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted run was")
    wanted = parser.parse_args()
    qf.train(
        student(),
        data="drawings",
        out=wanted.work,
        recipe="drawn-people",
        sets=wanted.sets,
        seed=SEED,
        threads=wanted.threads,
        resume=wanted.resume,
    )
    shutil.copyfile(wanted.work / STUDENT_FILE, wanted.out)
    print(verify(qf.load_model(wanted.out)))


if __name__ == "__main__":
    main()
