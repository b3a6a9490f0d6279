"""Identity of a network: a hash of its weights, computed again only when they change."""

import hashlib
import threading
from collections.abc import Mapping
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


def identity_of(network: Network) -> str:
    """Return a text that identifies a network: for a module, the hash of its weights.

    The hash is computed when a module is first seen, and again when its weights have changed. A
    checksum of the weights, which is eight times as fast as the hash, detects changes. The version
    counters of PyTorch would miss changes through ``.data`` or a NumPy view.

    Args:
        network: module, or a function, which its name identifies.
    """
    if not isinstance(network, nn.Module):
        return repr(getattr(network, "__qualname__", type(network)))
    state = network.state_dict()
    with _LOCK:
        traces = _traces_of(state)
        known = _KNOWN.get(network)
        if known is None or known[0] != traces:
            known = _KNOWN[network] = traces, hash_of(state)
    return known[1]


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
