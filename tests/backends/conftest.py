"""What all tests of this folder share."""

from quantized import one_thread

__all__ = ["one_thread"]
