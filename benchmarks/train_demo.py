"""Train the embedded demo model on drawn identities and measure it on identities whose attributes it never saw.

    python benchmarks/train_demo.py --work /tmp/demo --out qface_toolkit/models/demo.safetensors

Drawings and training state are kept in --work; with --resume an interrupted run goes on after its last whole epoch.
The networks are a table, so that other architectures can be trained on the same drawings.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.format import open_memmap
from safetensors.torch import save_file
from torch import nn

from qface_toolkit.models.mobilefacenet import MobileFaceNetPlan, PReLUMobileFaceNet, published_bottlenecks
from qface_toolkit.scoring.identities import Verification, verify_identities
from qface_toolkit.sources._identity import Attributes, draw_identity, traits
from qface_toolkit.sources.procedural import Drawings, ProceduralOptions
from qface_toolkit.training.arcface import ArcFaceOptions, LabelledCrops, Progress, train

EMBEDDING_SIZE = 128
FACTS = {
    "license": "Apache-2.0",
    "origin": "trained by benchmarks/train_demo.py on drawn identities; knows only drawings",
}
SEED = 1
TEST_SEED = 99
TEST_IDENTITIES, TEST_IMAGES = 200, 8
Crops = npt.NDArray[np.uint8]


def mobilefacenet(width: int, head: int) -> nn.Module:
    """Return a MobileFaceNet with PReLU whose first stage has `width` channels."""
    bottlenecks = published_bottlenecks(width)
    return MobileFaceNetPlan(
        "demo", PReLUMobileFaceNet, stem=width, bottlenecks=bottlenecks, head=head, embedding_size=EMBEDDING_SIZE
    ).build()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mobilefacenet-16": partial(mobilefacenet, 16, 256),
    "mobilefacenet-24": partial(mobilefacenet, 24, 256),
}


def draw_part(path: Path, options: ProceduralOptions, seed: int, part: range) -> None:
    """Draw some of the images of a file."""
    crops, drawings = open_memmap(path, "r+"), Drawings(options, count=part.stop, seed=seed)
    for index in part:
        crops[index] = drawings.crop(index)


def drawn_set(path: Path, attributes: Attributes, identities: int, images: int, seed: int) -> Crops:
    """Return identities x images crops from `path`, after drawing them if they are not there."""
    count = identities * images
    if not path.exists():
        unfinished = path.with_suffix(".partial")
        open_memmap(unfinished, "w+", dtype=np.uint8, shape=(count, 112, 112, 3)).flush()
        options = ProceduralOptions(images_per_identity=images, attributes=attributes)
        with Pool(torch.get_num_threads()) as pool:
            parts = [range(start, min(start + 256, count)) for start in range(0, count, 256)]
            pool.map(partial(draw_part, unfinished, options, seed), parts, chunksize=1)
        unfinished.rename(path)
    crops: Crops = np.load(path, mmap_mode="r")
    if len(crops) != count:
        raise SystemExit(f"{path} holds {len(crops)} images, not {count}: remove it or give other numbers")
    return crops


@torch.inference_mode()
def embed(network: nn.Module, crops: Crops, options: ArcFaceOptions) -> npt.NDArray[np.float32]:
    """Return the embeddings of the crops, float32 [N, 128]."""
    network.eval()
    rows = []
    for start in range(0, len(crops), 100):
        pixels = torch.from_numpy(np.array(crops[start : start + 100])).permute(0, 3, 1, 2).float()
        rows.append(network((pixels - options.mean) / options.std).numpy())
    return np.concatenate(rows)


def verify(network: nn.Module, crops: Crops, options: ArcFaceOptions) -> Verification:
    """Measure the network on drawn identities that follow each other."""
    labels = np.arange(len(crops)) // TEST_IMAGES
    return verify_identities(embed(network, crops, options), labels, fars=(1e-2, 1e-3))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for drawings and training state")
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file to write")
    parser.add_argument("--network", choices=sorted(NETWORKS), default="mobilefacenet-16")
    parser.add_argument("--identities", type=int, default=2400)
    parser.add_argument("--images", type=int, default=14, help="images of each identity")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on from the state that an interrupted run left")
    return parser.parse_args()


def training_options(wanted: argparse.Namespace) -> ArcFaceOptions:
    """Return how the demo model is trained."""
    return ArcFaceOptions(
        epochs=wanted.epochs,
        batch_size=wanted.batch_size,
        learning_rate=wanted.learning_rate,
        scale=24.0,
        margin=0.3,
        margin_epochs=0.4 * wanted.epochs,
        trait_weight=30.0,
        class_epochs=0.2 * wanted.epochs,
        largest_shift=1,
        mirrored=False,  # moles and the pattern of the skin sit on one side of a face
        seed=SEED,
    )


def training_state(wanted: argparse.Namespace) -> Path:
    """Return the file that training goes on from; a left-over one is only used when that is asked for."""
    state: Path = wanted.work / f"{wanted.network}.pt"
    if state.exists() and not wanted.resume:
        raise SystemExit(f"{state} is there: add --resume to go on from it, or remove it")
    return state


def training_drawings(wanted: argparse.Namespace) -> LabelledCrops:
    """Return the drawings to learn from, with whose they are and what those people look like."""
    file = wanted.work / f"train-{wanted.identities}x{wanted.images}.npy"
    crops = drawn_set(file, "calibration", wanted.identities, wanted.images, SEED)
    known = np.stack([traits(draw_identity(SEED, number, "calibration")) for number in range(wanted.identities)])
    return LabelledCrops(crops, np.arange(len(crops)) // wanted.images, known)


def main() -> None:
    """Draw, train, measure, write."""
    wanted = parse()
    torch.set_num_threads(wanted.threads)
    torch.manual_seed(SEED)
    wanted.work.mkdir(parents=True, exist_ok=True)
    state, options, data = training_state(wanted), training_options(wanted), training_drawings(wanted)
    test = drawn_set(wanted.work / "test.npy", "heldout", TEST_IDENTITIES, TEST_IMAGES, TEST_SEED)
    # torch's type stubs leave this argument out; the layout is twice as fast on a processor.
    network = NETWORKS[wanted.network]().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    started = time.perf_counter()

    def tell(progress: Progress) -> None:
        if progress.step % 50 == 0:
            print(f"{time.perf_counter() - started:.0f} s {progress}", flush=True)

    def measure(epoch: int, trained: nn.Module) -> None:
        figures = verify(trained, test, options)
        print(f"{time.perf_counter() - started:.0f} s after epoch {epoch}: {figures}", flush=True)

    train(network, data, options, embedding_size=EMBEDDING_SIZE, checkpoint=state, report=tell, epoch_done=measure)
    print(verify(network, test, options))
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, wanted.out, metadata=FACTS)
    wanted.out.chmod(0o644)


if __name__ == "__main__":
    main()
