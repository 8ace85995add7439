"""The only file that imports torch.ao: QAT observers go in through FX graph mode, and int8 modules come out.

Stock FX is wrong about PReLU (its output is not fake-quantized, and the kernel multiplies positive activations by
the slope grid's idea of 1.0), so PReLU gets a qconfig of its own: a slope grid that holds 1.0 exactly, and the same
activation quantizer as every other tensor.
"""

import copy
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import torch
from torch import fx, nn
from torch.ao.quantization import FakeQuantizeBase, QConfig, QConfigMapping
from torch.ao.quantization.backend_config import (
    BackendConfig,
    BackendPatternConfig,
    DTypeConfig,
    ObservationType,
    get_native_backend_config,
)
from torch.ao.quantization.fx.custom_config import PrepareCustomConfig
from torch.ao.quantization.quantize_fx import convert_fx, prepare_qat_fx

from qface_toolkit.canonical.islands import Island, Move
from qface_toolkit.quantize.quantizers import ActivationQuantizer, SlopeQuantizer, WeightQuantizer


class _Activation(ActivationQuantizer, FakeQuantizeBase):  # type: ignore[misc]  # its base says that qparams are nothing
    """What torch.ao takes for one of its own quantizers, for tensors."""


class _Weight(WeightQuantizer, FakeQuantizeBase):  # type: ignore[misc]  # its base says that qparams are nothing
    """The same for weights."""


class _Slope(SlopeQuantizer, FakeQuantizeBase):  # type: ignore[misc]  # its base says that qparams are nothing
    """The same for the weights of PReLUs."""


def insert_quantizers(network: fx.GraphModule, probe: torch.Tensor, floats: Collection[str] = ()) -> fx.GraphModule:
    """Return a network with quantizers behind its operations and on its weights; the network is used up.

    `probe` is an input; `floats` are the paths of modules that compute in float.
    """
    qconfig: Callable[..., QConfig] = QConfig  # torch ships no types for its constructor
    mapping = QConfigMapping().set_global(qconfig(activation=_Activation, weight=_Weight))
    mapping.set_object_type(nn.PReLU, qconfig(activation=_Activation, weight=_Slope))
    for path in floats:
        mapping.set_module_name(path, None)
    whole = PrepareCustomConfig().set_non_traceable_module_classes([Island, Move])
    with _quietly():
        prepared: fx.GraphModule = prepare_qat_fx(
            network.train(), mapping, (probe,), prepare_custom_config=whole, backend_config=_backend_config()
        )
    return prepared


def convert_quantized(prepared: fx.GraphModule) -> fx.GraphModule:
    """Return the int8 form of a network with quantizers, for the engine that is set; the network is left alone."""
    with _quietly():
        converted: fx.GraphModule = convert_fx(copy.deepcopy(prepared), backend_config=_backend_config())
    return converted


@contextmanager
def _quietly() -> Iterator[None]:
    """Leave out that all of it is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning))
        yield


def _backend_config() -> BackendConfig:
    """Return what torch's engines can do, without the one grid that their own sigmoids have (see _converted)."""
    config = get_native_backend_config()
    codes = DTypeConfig(input_dtype=torch.quint8, output_dtype=torch.quint8)
    for kind in (nn.Sigmoid, nn.Hardsigmoid):
        pattern = BackendPatternConfig(kind).set_dtype_configs([codes])
        pattern.set_observation_type(ObservationType.OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT)
        config.set_backend_pattern_config(pattern)
    moving = BackendPatternConfig(Move).set_dtype_configs([codes])
    moving.set_observation_type(ObservationType.OUTPUT_SHARE_OBSERVER_WITH_INPUT)
    config.set_backend_pattern_config(moving)
    return config
