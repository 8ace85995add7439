"""Options of the whole test run, and what tests of every folder share."""

import gc
import os
import random
import sys

import pytest
from hypothesis import settings
from made_once import MadeOnce, run_folder

from qface_toolkit.environment import set_determinism

# torch and what needs it are imported where they are used: the process that only starts the workers needs none of it.

pytest_plugins = ["cpu_budget"]

# Keeps oneDNN, which reads it once, from matrix tiles: on these nobody knows to the bit what torch computes.
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_FP16"

settings.register_profile("repeatable", derandomize=True)
"""One commit has one verdict; `pytest --hypothesis-profile=default` looks for examples that nobody has tried."""
settings.load_profile("repeatable")


def pytest_addoption(parser):
    """Add the one flag that rewrites golden files."""
    parser.addoption(
        "--regenerate", action="store_true", help="rewrite the golden files instead of comparing with them"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_make_collect_report():
    """Let the tables of a test file be drawn from the same seed whichever files were collected before it."""
    set_determinism(seed=0, threads=1)


def pytest_collection_finish():
    """Keep the garbage collector from what lives as long as the tests: passing over it took a sixth of their time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Let a test draw the same numbers whichever tests ran before it, on one thread: workers share the cores.

    As `set_determinism` does, without asking for devices that a test does not use, which takes longer than most tests.
    """
    import torch

    random.seed(0)
    torch.default_generator.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def golden(request):
    """Return the comparison of a text with tests/golden/<name>; with --regenerate it writes the file instead."""

    def compare(name, text):
        file = request.config.rootpath / "tests" / "golden" / name
        if request.config.getoption("--regenerate"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
            pytest.skip(f"wrote {name}: review the difference before committing it")
        assert text == file.read_text(), f"{name} differs; if that is meant, run pytest --regenerate"

    return compare


@pytest.fixture(scope="module")
def measured_quickly():
    """Have the jobs of a module measure on few images and in few rounds."""
    from helpers import measure_quickly

    with pytest.MonkeyPatch.context() as patch:
        measure_quickly(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def small_models_stay():
    """See at the end whether some test changed a model that others use."""
    yield
    if "quantized" in sys.modules:
        sys.modules["quantized"].check_small_models()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Return the folders that are made once a run, which no test may write into."""
    folders = MadeOnce(run_folder(tmp_path_factory))
    yield folders
    folders.check()


@pytest.fixture(scope="session")
def checkpoint(made_once):
    """Return the path of the tiny checkpoint."""
    from helpers import write_tiny

    return made_once.folder("checkpoint", lambda folder: write_tiny(folder / "tiny.pth")) / "tiny.pth"


@pytest.fixture(scope="session")
def finished(made_once):
    """Return a folder with the tiny checkpoint and a finished result of it: tiny.pth, and out with every default file.

    A test that changes something works on a copy.
    """
    from helpers import compress_tiny

    return made_once.folder("finished", compress_tiny)


@pytest.fixture(scope="session")
def finished_onnx(made_once):
    """Return such a folder whose result has one artifact, int8.x86.onnx: what is judged in few seconds."""
    from helpers import compress_tiny

    return made_once.folder("finished-onnx", lambda folder: compress_tiny(folder, "onnx-x86"))


@pytest.fixture
def planned(checkpoint, tmp_path):
    """Return a function that plans a job for the tiny checkpoint by a recipe's text and settings."""
    from qface_toolkit.pipeline import plan_job

    def plan(text, *sets):
        (tmp_path / "mine.yaml").write_text(text)
        return plan_job(checkpoint, recipe=str(tmp_path / "mine.yaml"), sets=sets)

    return plan
