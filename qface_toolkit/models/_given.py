"""Make a plain float network of the nn.Module that a program hands over, or say in one sentence why there is none.

Programs hold networks inside wrappers, in half precision, with more outputs than the embedding, and sometimes after
quantization. Whatever is changed is changed in a copy.
"""

import copy
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import qface_toolkit
from qface_toolkit.errors import CheckpointError
from qface_toolkit.models._made_weights import with_plain_weights
from qface_toolkit.models._spec import SHORTEST_EMBEDDING

_WRAPPERS: Mapping[str, str] = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "OptimizedModule": "_orig_mod",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
    "_FabricModule": "_forward_module",
}
"""Class of a wrapper -> the attribute that holds the module inside."""

_QUANTIZED = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.intrinsic.quantized",
    "torch.ao.nn.qat",
    "torch.ao.nn.intrinsic.qat",
    "torch.ao.quantization.observer",
    "torch.ao.quantization.fake_quantize",
    "torch.nn.quantized",
    "torchao.",
)
"""Where the classes live that torch puts into networks that it prepares for quantization or quantizes."""

_PACKAGES = tuple(str(Path(file).parent) for file in (torch.__file__, qface_toolkit.__file__))

_FLOAT = ("FloatFunctional", "QuantStub", "DeQuantStub")
"""Those of them that compute as if they were not there, until somebody prepares the network."""


def plain(network: object) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a float32 network without wrappers, in eval mode and main memory, and notes on what was done to get it.

    Raises:
        CheckpointError: if it is no nn.Module, a TorchScript program, prepared for quantization or quantized, or if its
            weights hold no data.
    """
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise CheckpointError(f"a network must be an nn.Module, not {kind}", fix="give the module, or a file's path")
    _refuse_scripted(network)
    inside, wrappers = _unwrapped(network)
    _refuse_quantized(inside)
    _refuse_empty(inside)
    inside, made = with_plain_weights(inside)
    inside, types = _as_float32(inside)
    notes = [f"took the network out of {wrapper}" for wrapper in wrappers]
    notes += [f"computed the weights that {kind} makes anew in each run" for kind in made]
    notes += [f"converted {kind} weights to float32" for kind in types]
    return inside.eval(), tuple(notes)


def _refuse_scripted(network: nn.Module) -> None:
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise CheckpointError(
            "the network is a TorchScript program, whose layers cannot be changed any more",
            where=type(network).__name__,
            fix="give the nn.Module that it was scripted or traced from",
        )


def _unwrapped(network: nn.Module) -> tuple[nn.Module, list[str]]:
    """Return the network without wrappers around it or inside it, a copy where something inside was taken out."""
    found: list[str] = []
    while (held := _held(network)) is not None:
        found.append(type(network).__name__)
        network = held
    if any(_held(module) is not None for module in network.modules()):
        network = copy.deepcopy(network)
        for parent in list(network.modules()):
            for name, child in list(parent.named_children()):
                inner, kinds = _unwrapped(child) if _held(child) is not None else (child, [])
                found += kinds
                setattr(parent, name, inner)
    if getattr(network, "_compiled_call_impl", None) is not None:
        network = copy.deepcopy(network)  # a copy of a module that was compiled in place is not
        found.append("torch.compile")
    return network, list(dict.fromkeys(found))


def _held(module: nn.Module) -> nn.Module | None:
    kinds = (kind.__name__ for kind in type(module).__mro__ if kind.__module__.split(".")[0] in ("torch", "lightning"))
    attribute = next((_WRAPPERS[kind] for kind in kinds if kind in _WRAPPERS), None)
    held = getattr(module, attribute, None) if attribute else None
    return held if isinstance(held, nn.Module) else None


def _refuse_quantized(network: nn.Module) -> None:
    named = next(iter(_quantized(network)), None)
    if named is not None:
        raise CheckpointError(
            "the network is prepared for quantization or quantized already",
            where=named,
            fix="give the float network that it was made from; qface quantizes by itself",
        )


def _quantized(network: nn.Module) -> Iterator[str]:
    for name, module in network.named_modules():
        kind = type(module)
        if f"{kind.__module__}.".startswith(_QUANTIZED) and kind.__name__ not in _FLOAT:
            yield f"{name or 'the network'} ({kind.__name__})"
        nodes = module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ()
        yield from (f"{name or 'the network'}, {node.name}" for node in nodes if "quantize_per_" in str(node.target))
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_quantized or type(tensor.data).__module__.startswith("torchao"):
            yield name


def _refuse_empty(network: nn.Module) -> None:
    tensors = dict((*network.named_parameters(), *network.named_buffers()))
    lazy = [name for name, tensor in tensors.items() if nn.parameter.is_lazy(tensor)]
    bare = [name for name, tensor in tensors.items() if name not in lazy and tensor.is_meta]
    if lazy or bare:
        how = "run it once on an image" if lazy else "load its weights first (load_state_dict(..., assign=True))"
        what = f"the network's weights hold no data, so they cannot be copied into main memory: {(lazy or bare)[0]}"
        raise CheckpointError(what, where=type(network).__name__, fix=how)


def _as_float32(network: nn.Module) -> tuple[nn.Module, list[str]]:
    """Return a copy in main memory of float32, or the network itself if it is that already, and the other types."""
    tensors = (*network.parameters(), *network.buffers())
    kinds = {tensor.dtype for tensor in tensors if tensor.is_floating_point()} - {torch.float32}
    if {tensor.device.type for tensor in tensors} <= {"cpu"} and not kinds:
        return network, []
    try:
        return copy.deepcopy(network).cpu().float(), sorted(str(kind).removeprefix("torch.") for kind in kinds)
    except RuntimeError as error:
        raise CheckpointError(
            f"the network's weights cannot be copied into main memory: {error}", fix="load its weights first"
        ) from error


class EmbeddingOf(nn.Module):
    """A network of several outputs as one of the embedding alone."""

    def __init__(self, network: nn.Module, key: int | str | None, *, flat: bool) -> None:
        super().__init__()
        self.network = network
        self.key = key
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] to embeddings [N, D]."""
        returned = self.network(x)
        embedding: Tensor = returned if self.key is None else returned[self.key]
        return torch.flatten(embedding, 1) if self.flat else embedding


def embedding_alone(network: nn.Module, returned: object) -> tuple[nn.Module, int, tuple[str, ...]]:
    """Return the network that gives its embedding alone, [N, D]; D; and a note if it returned more than that.

    `returned` is what it gave for two images: a tensor, or tensors in a tuple, a list or a dictionary.

    Raises:
        CheckpointError: if no output is an embedding, or several may be, or it holds no finite numbers.
    """
    outputs = dict(_outputs(returned))
    fitting = [key for key, tensor in outputs.items() if _embeds(tensor, alone=key is None)]
    if len(fitting) != 1:
        raise _no_embedding(outputs, returned, fitting)
    key, tensor = fitting[0], outputs[fitting[0]]
    if not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(
            "the network returns NaN or infinity for an image of zeros", fix="check its weights: they look damaged"
        )
    size, flat = int(tensor.shape[1]), tensor.dim() == 4
    if key is None and not flat:
        return network, size, ()
    taken = "its output" if key is None else f"its output {key!r} of {len(outputs)}"
    return EmbeddingOf(network, key, flat=flat), size, (f"took {taken} as the embedding: {list(tensor.shape[1:])}",)


def _outputs(returned: object) -> Iterator[tuple[int | str | None, Tensor]]:
    if isinstance(returned, Tensor):
        yield None, returned
    items = returned.items() if isinstance(returned, Mapping) else ()
    named = enumerate(returned) if isinstance(returned, Sequence) and not isinstance(returned, str) else items
    for key, value in named:
        if isinstance(value, Tensor) and isinstance(key, int | str):
            yield key, value


def _embeds(tensor: Tensor, *, alone: bool) -> bool:
    """Tell whether an output may be the embedding: one vector an image, which beside others must be of some length."""
    vector = tensor.dim() == 2 or (tensor.dim() == 4 and tuple(tensor.shape[2:]) == (1, 1))
    return vector and tensor.shape[0] == 2 and (alone or tensor.shape[1] >= SHORTEST_EMBEDDING)


def _no_embedding(
    outputs: Mapping[int | str | None, Tensor], returned: object, fitting: Sequence[object]
) -> CheckpointError:
    shapes = [list(tensor.shape) for tensor in outputs.values()]
    single = None in outputs
    got = str(shapes[0]) if single else f"{type(returned).__name__} of {shapes}" if shapes else type(returned).__name__
    why = "several of which may be the embedding" if len(fitting) > 1 else "not one embedding [D] each"
    return CheckpointError(
        f"the network returns {got} for two images, {why}",
        fix="wrap it in an nn.Module that returns the embedding alone, [N, D]",
    )


def line_of(error: BaseException) -> str | None:
    """Return the line of a network's own code that an error came from: the innermost outside torch and this package."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_ours(frame.filename)]
    if not own:
        return None
    frame = own[-1]
    return f"{frame.filename}, line {frame.lineno}, in {frame.name}: {frame.line}"


def _is_ours(file: str) -> bool:
    return file.startswith(_PACKAGES) or file.startswith("<")
