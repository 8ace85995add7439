"""What all tests of this folder share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Single images on one thread: two threads that wait for each other take many times as long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
