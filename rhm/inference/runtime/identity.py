"""Identity of a network: a hash of its weights, computed again only when they change, and its code.

The weights of a network say what it computes only together with its modules, so these are
identified as well, by their names and by the bytecode of their ``forward``.
"""

import hashlib
import inspect
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rhm.inference.runtime.tta import Network

# Weights that move within a tensor by a multiple of this number of words would go unnoticed. It is
# prime, so a permutation of channels, whose lengths have only small factors, is always noticed.
_FOLD = 251

_KNOWN: WeakKeyDictionary[nn.Module, tuple[str, str]] = WeakKeyDictionary()
_LOCK = threading.Lock()


@dataclass(frozen=True)
class NetworkIdentity:
    """What identifies a network; as long as it does not change, it has to be found only once.

    Attributes:
        parts: texts that identify its weights and its code; None if nothing identifies it.
    """

    parts: tuple[str, str] | None

    @classmethod
    def of(cls, network: Network) -> "NetworkIdentity":
        """Identify a network."""
        weights = identity_of(network)
        code = code_of(network) if isinstance(network, nn.Module) else None
        return cls(None if weights is None or code is None else (weights, code))


def identity_of(network: Network) -> str | None:
    """Return a text that identifies the weights of a network; None for a function.

    What a function computes may depend on anything, so two functions are never known to be the
    same.

    The hash is computed when a module is first seen, and again when its weights have changed. A
    checksum of the weights, which is eight times as fast as the hash, detects changes. The version
    counters of PyTorch would miss changes through ``.data`` or a NumPy view.

    Args:
        network: module or function.
    """
    if not isinstance(network, nn.Module):
        return None
    state = network.state_dict()
    with _LOCK:
        traces = _traces_of(state)
        known = _KNOWN.get(network)
        if known is None or known[0] != traces:
            known = _KNOWN[network] = traces, hash_of(state)
    return known[1]


def code_of(network: nn.Module) -> str | None:
    """Return a text that identifies the modules of a network and the code that they execute.

    The result is None if a module executes what cannot be identified: a hook, a ``forward`` of its
    own, or one that refers to objects of the function that defines it.
    """
    for module in network.modules():
        if "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks:
            return None
    lines = [repr(network)]
    for kind in sorted({type(module) for module in network.modules()}, key=repr):
        lines.append(f"{kind.__module__}.{kind.__qualname__}")
        forward = getattr(kind, "forward", None)
        if isinstance(forward, FunctionType):
            # A decorator refers to the method that it decorates, which is what matters.
            method = inspect.unwrap(forward)
            surroundings = _surroundings_of(method)
            if surroundings is None:
                return None
            lines += [surroundings, _text_of(forward.__code__), _text_of(method.__code__)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _surroundings_of(function: FunctionType) -> str | None:
    """Return the values that a function refers to by its closure; None if one is not plain."""
    values: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name == "__class__":
            continue  # the class of a method that calls super()
        if not isinstance(cell.cell_contents, (bool, int, float, str, type(None))):
            return None
        values[name] = cell.cell_contents
    return repr(values)


def _text_of(value: Any) -> str:
    """Return a text that identifies code, or a constant of it, in every process."""
    if isinstance(value, CodeType):
        return f"{value.co_code.hex()} {value.co_names} {_text_of(value.co_consts)}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_text_of, value))})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(_text_of, value)))}}}"
    return repr(value)


def hash_of(state: Mapping[str, Tensor]) -> str:
    """Return a hash of named tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(_bytes_of(tensor.contiguous()).data)
    return digest.hexdigest()


def _traces_of(state: Mapping[str, Tensor]) -> str:
    """Return a checksum of named tensors, which detects all but deliberately hidden changes."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        # In memory order, so that nothing is copied.
        order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
        values = _bytes_of(tensor.permute(order).contiguous())
        whole = len(values) // (8 * _FOLD) * (8 * _FOLD)
        words = values[:whole].view(np.uint64).reshape(-1, _FOLD)
        digest.update(np.add.reduce(words, axis=0).data)
        digest.update(values[whole:].data)
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> NDArray[np.uint8]:
    """Return the bytes of a contiguous tensor."""
    found: NDArray[Any] = tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy()
    return found
