"""Drivers of GDAL that do more than read the file that is opened, and are used with care or never.

GDAL chooses a driver by the content of a file, whatever its name. This module must import nothing
that takes time.
"""

import logging
import os
from collections.abc import MutableMapping

REFUSED: tuple[str, ...] = (
    # These write files or run programs while they read.
    "MRF",
    "GDALG",
    "GPSBabel",
    # A few lines of text make these ask servers or databases for features.
    "ADBC",
    "AmigoCloud",
    "Carto",
    "CSW",
    "DAAS",
    "EEDA",
    "Elasticsearch",
    "HTTP",
    "NGW",
    "OAPIF",
    "OGR_VRT",
    "PLSCENES",
    "WFS",
)
"""Names of drivers that are never used."""

SERVICES = frozenset(
    ("WMS", "WMTS", "WCS", "OGCAPI", "STACIT", "STACTA", "PLMOSAIC", "EEDAI", "GTI")
)
"""Names of drivers whose files are descriptions of where the imagery is, mostly on servers."""

_XML = (".xml", ".wms", ".wmts", ".tms")

DESCRIPTIONS: dict[str, tuple[str, ...]] = {
    "VRT": (".vrt",),
    "GTI": (".gti", ".gti.gpkg", ".gti.fgb", ".gti.parquet", ".xml"),
    "STACIT": (".json", ".geojson"),
    "STACTA": (".json",),
    **dict.fromkeys(SERVICES - {"GTI", "STACIT", "STACTA"}, _XML),
}
"""The ends of names with which files that lead to others are opened, by their driver."""

_OPTION = "GDAL_SKIP"


_LOG = logging.getLogger("rasterio._env")


def _is_no_complaint(record: logging.LogRecord) -> bool:
    return f"unload from {_OPTION}" not in record.getMessage()


def refuse_drivers(environment: MutableMapping[str, str] = os.environ) -> None:
    """Keep GDAL from registering the drivers in ``REFUSED``, for virtual rasters and masks, too.

    It has an effect as long as neither rasterio nor pyogrio has opened anything in the process.

    Args:
        environment: environment variables, in which the drivers are added to those that the user
            does not want.
    """
    # Not every GDAL has them all, and each that it has not is a warning of rasterio's.
    _LOG.addFilter(_is_no_complaint)
    before = environment.get(_OPTION, "")
    # Names may be separated by spaces, but not if one of them contains a space.
    names = [name.strip() for name in (before.split(",") if "," in before else before.split())]
    environment[_OPTION] = ",".join(dict.fromkeys([*filter(None, names), *REFUSED]))
