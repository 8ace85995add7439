"""The steps a recipe is made of: one file a method. Methods never lower."""

from qface_toolkit.methods._base import Context, Method, Progress
from qface_toolkit.registry import Registry

METHODS: Registry[Method] = Registry("method", __name__)

__all__ = ["METHODS", "Context", "Method", "Progress"]
