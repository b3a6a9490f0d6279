"""Drivers of GDAL that do more than read the file that is opened, and are used with care or never.

GDAL chooses a driver by the content of a file, whatever its name. This module must import nothing
that takes time.
"""

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

DESCRIPTIONS = {".vrt": frozenset(["VRT"])} | dict.fromkeys(
    (".xml", ".wms", ".wmts", ".gti", ".json"), SERVICES
)
"""The drivers of files that lead to others, by the suffixes with which such files are opened."""

_OPTION = "GDAL_SKIP"


def refuse_drivers(environment: MutableMapping[str, str] = os.environ) -> None:
    """Keep GDAL from registering the drivers in ``REFUSED``, for virtual rasters and masks, too.

    It has an effect as long as neither rasterio nor pyogrio has opened anything in the process.

    Args:
        environment: environment variables, in which the drivers are added to those that the user
            does not want.
    """
    before = environment.get(_OPTION, "")
    # Names may be separated by spaces, but not if one of them contains a space.
    names = [name.strip() for name in (before.split(",") if "," in before else before.split())]
    environment[_OPTION] = ",".join(dict.fromkeys([*filter(None, names), *REFUSED]))
