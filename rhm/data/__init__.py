"""Imagery and labels: rasters, catalogs, windows, radiometry, footprints, chips."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rhm.data.catalog import Catalog
    from rhm.data.layouts.registry import (
        index_dataset,
        index_folder,
        index_inria,
        index_spacenet,
    )
    from rhm.data.rasters.pixels import Pixels
    from rhm.data.rasters.raster import Raster

_HOMES = {
    "Catalog": "rhm.data.catalog",
    "Pixels": "rhm.data.rasters.pixels",
    "Raster": "rhm.data.rasters.raster",
    "index_dataset": "rhm.data.layouts.registry",
    "index_folder": "rhm.data.layouts.registry",
    "index_inria": "rhm.data.layouts.registry",
    "index_spacenet": "rhm.data.layouts.registry",
}

__all__ = [
    "Catalog",
    "Pixels",
    "Raster",
    "index_dataset",
    "index_folder",
    "index_inria",
    "index_spacenet",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rhm.data' has no attribute '{name}'")
