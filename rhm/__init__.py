"""Building footprints from overhead imagery that keep working when city, sensor and light change.

Names are imported when they are first used (PEP 562): ``import rhm`` costs nothing, while
albumentations and torch cost seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rhm.gdal_drivers import refuse_drivers

if TYPE_CHECKING:
    from rhm.augmentation.randomized_matching import RandomizedHistogramMatching
    from rhm.colour.batched import BatchedHistogramMatching
    from rhm.colour.histogram import Histogram
    from rhm.colour.histogram_bank import HistogramBank
    from rhm.colour.lookup import PixelMap
    from rhm.colour.matching import match_histograms
    from rhm.errors import RhmError

__version__ = "0.1.0"

# Before anything of rhm can import rasterio or pyogrio.
refuse_drivers()

_HOMES = {
    "BatchedHistogramMatching": "rhm.colour.batched",
    "Histogram": "rhm.colour.histogram",
    "HistogramBank": "rhm.colour.histogram_bank",
    "PixelMap": "rhm.colour.lookup",
    "RandomizedHistogramMatching": "rhm.augmentation.randomized_matching",
    "RhmError": "rhm.errors",
    "match_histograms": "rhm.colour.matching",
}

__all__ = [
    "BatchedHistogramMatching",
    "Histogram",
    "HistogramBank",
    "PixelMap",
    "RandomizedHistogramMatching",
    "RhmError",
    "__version__",
    "match_histograms",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rhm' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
