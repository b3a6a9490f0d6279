"""Properties of a raster, and its distance from the imagery that a model was trained on."""

import math
import os
from collections.abc import Sequence
from typing import Any

from rhm.colour.histogram import Histogram
from rhm.colour.levels import DTYPES
from rhm.data.radiometry import Scaling, histogram_of
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.raster_info import RasterInfo
from rhm.models.spec import ModelSpec

_SHARES = (0.0, 0.02, 0.5, 0.98, 1.0)


def inspect_raster(
    path: str | os.PathLike[str],
    spec: ModelSpec | None = None,
    *,
    bands: Sequence[int] | None = None,
    black_is_nodata: bool = False,
) -> dict[str, Any]:
    """Return the properties of a raster as JSON-ready values.

    A band without valid pixels has None in place of its values. Nodata that is no finite number is
    the text ``nan``, ``inf`` or ``-inf``, because JSON has no such numbers.

    Args:
        path: path of the raster.
        spec: description of a model to compare with, or None.
        bands: 1-based indices of the bands to read; by default, all except alpha.
        black_is_nodata: whether pixels that are zero in all bands are nodata.

    Raises:
        RasterError: the raster cannot be read.
        ModelFileError: the raster has other bands than the model takes, or the model does not
            record its training imagery.
    """
    with Raster(path, bands=bands, black_is_nodata=black_is_nodata) as raster:
        info, nodata = raster.info, raster.info.nodata
        facts: dict[str, Any] = {
            "file": info.path,
            "size": f"{info.width} x {info.height}",
            "bands": len(info.bands),
            "band_order": list(info.bands),
            "dtype": info.dtype,
            "crs": info.crs.to_string() if info.crs else None,
            "gsd_m": info.gsd_m,
            "pixel_aspect": None if info.gsd_m is None else info.pixel_aspect,
            "nodata": nodata if nodata is None or math.isfinite(nodata) else str(nodata),
            "masked": info.masked,
            "block": f"{info.block_shape[1]} x {info.block_shape[0]}",
            "overviews": list(info.overviews),
        }
        if raster.dtype not in DTYPES:
            return facts
        histogram = histogram_of(raster)
    # The values below are counted on this many pixels, spread over the raster.
    facts["pixels_counted"] = histogram.pixels
    facts["values (min 2% 50% 98% max)"] = [
        " ".join(str(value) for value in band) if histogram.pixels else None
        for band in histogram.quantile(_SHARES).tolist()
    ]
    if spec is not None and histogram.pixels:
        facts |= _compared(spec, histogram, info)
    return facts


def _compared(spec: ModelSpec, histogram: Histogram, info: RasterInfo) -> dict[str, Any]:
    spec.check_bands(histogram.bands, info.path)
    scaling = spec.known_scaling(info.dtype) or Scaling.measure(histogram)
    nearest, distance = spec.source_distance(scaling.bytes_table().push(histogram).distribution())
    return {
        "nearest_domain": nearest,
        "distance": [round(float(of_band), 4) for of_band in distance],
    }
