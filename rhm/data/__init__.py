"""Imagery and labels: rasters, catalogs, windows, radiometry, footprints, chips."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rhm.data.catalog import Catalog
    from rhm.data.folder import index_folder
    from rhm.data.inria import index_inria
    from rhm.data.raster import Raster
    from rhm.data.spacenet import index_spacenet

_HOMES = {
    "Catalog": "rhm.data.catalog",
    "Raster": "rhm.data.raster",
    "index_folder": "rhm.data.folder",
    "index_inria": "rhm.data.inria",
    "index_spacenet": "rhm.data.spacenet",
}

__all__ = ["Catalog", "Raster", "index_folder", "index_inria", "index_spacenet"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rhm.data' has no attribute '{name}'")
