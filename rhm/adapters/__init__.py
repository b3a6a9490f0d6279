"""Adapters: low-rank updates of frozen networks, and the deep linear networks behind them."""

from rhm.adapters.adapter_file import load_adapter, save_adapter
from rhm.adapters.attach import (
    Attachment,
    attach,
    attachment_of,
    detach,
    hold_batch_norm,
    merge,
    parameter_groups,
)
from rhm.adapters.lowrank import DeepLoRA, LoRA

__all__ = [
    "Attachment",
    "DeepLoRA",
    "LoRA",
    "attach",
    "attachment_of",
    "detach",
    "hold_batch_norm",
    "load_adapter",
    "merge",
    "parameter_groups",
    "save_adapter",
]
