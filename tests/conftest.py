"""Options of the whole test run."""

import pytest
import torch
from helpers import measure_quickly, write_tiny
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
"""One commit has one verdict; `pytest --hypothesis-profile=default` looks for examples that nobody has tried."""
settings.load_profile("repeatable")


def pytest_addoption(parser):
    """Add the one flag that rewrites golden files."""
    parser.addoption(
        "--regenerate", action="store_true", help="rewrite the golden files instead of comparing with them"
    )


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
    """Have the jobs of a module measure on few images and in few rounds, and give threads back."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        measure_quickly(patch)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Return the path of the tiny checkpoint."""
    return write_tiny(tmp_path_factory.mktemp("checkpoint") / "tiny.pth")
