"""What stands in a checkpoint for the plain values that training programs save beside the weights.

The best accuracy is a number of NumPy's, arguments are a Namespace, the place of the data is a Path, callbacks stand
under their classes. None of these is made: what the file calls for holds nothing and does nothing.
"""

import typing
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

_THINGS: Mapping[str, Sequence[str]] = {
    "numpy": ("dtype", "ndarray"),
    "numpy.core.multiarray": ("scalar", "_reconstruct"),
    "numpy._core.multiarray": ("scalar", "_reconstruct"),
    "argparse": ("Namespace",),
    "types": ("SimpleNamespace",),
    "pathlib": ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
    "pathlib._local": ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
    "datetime": ("datetime", "date", "time", "timedelta", "timezone"),
    "omegaconf.dictconfig": ("DictConfig",),
    "omegaconf.listconfig": ("ListConfig",),
    "omegaconf.base": ("ContainerMetadata", "Metadata"),
    "omegaconf.nodes": ("AnyNode", "IntegerNode", "FloatNode", "StringNode", "BooleanNode"),
    "typing": ("Any",),
    "pytorch_lightning.callbacks.model_checkpoint": ("ModelCheckpoint",),
    "pytorch_lightning.callbacks.early_stopping": ("EarlyStopping",),
    "pytorch_lightning.callbacks.lr_monitor": ("LearningRateMonitor",),
    "builtins": ("list", "dict", "tuple", "int", "float", "str", "bool", "slice"),
}
_MAPPINGS: Mapping[str, Sequence[str]] = {
    "collections": ("defaultdict",),
    "easydict": ("EasyDict",),
    "yacs.config": ("CfgNode",),
    "addict.addict": ("Dict",),
    "fvcore.common.config": ("CfgNode",),
    "pytorch_lightning.utilities.parsing": ("AttributeDict",),
    "lightning.pytorch.utilities.parsing": ("AttributeDict",),
    "lightning_fabric.utilities.data": ("AttributeDict",),
    "lightning.fabric.utilities.data": ("AttributeDict",),
}
_OLD_NAMES = {"builtins": "__builtin__"}
"""What the second protocol, which torch.save writes, calls a module."""


class _Thing:
    """Holds nothing, whatever it is made of and told."""

    def __new__(cls, *_args: object, **_options: object) -> "typing.Self":
        """Make one of nothing."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Hear what it should hold."""


class _Mapping:
    """What calls itself a kind of mapping is a plain one, which the file may fill: it may hold the weights."""

    def __new__(cls, *_args: object) -> OrderedDict[object, object]:  # type: ignore[misc]  # that is the point
        """Make a plain mapping."""
        return OrderedDict()


def stand_ins() -> list[Callable[..., object] | tuple[Callable[..., object], str]]:
    """Return what to call for each name ("module.name"), as torch.serialization.safe_globals takes it."""
    things = [(f"{module}.{name}", name) for module, names in _THINGS.items() for name in names]
    made: list[Callable[..., object] | tuple[Callable[..., object], str]] = []
    made += [(type(name, (_Thing,), {}), path) for path, name in things]
    made += [(_Mapping, f"{module}.{name}") for module, names in _MAPPINGS.items() for name in names]
    return made


NAMES = frozenset(
    f"{_OLD_NAMES.get(module, module)} {name}"
    for kinds in (_THINGS, _MAPPINGS)
    for module, names in kinds.items()
    for name in names
)
"""The names as a pickle has them ("module name")."""
