"""From predictions to maps: one layer from many scenes, and what differs from an existing map."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rhm.mapping.map_changes import compare_maps
    from rhm.mapping.merged_layer import merge_layers

_HOMES = {
    "compare_maps": "rhm.mapping.map_changes",
    "merge_layers": "rhm.mapping.merged_layer",
}

__all__ = ["compare_maps", "merge_layers"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rhm.mapping' has no attribute '{name}'")
