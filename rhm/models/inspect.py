"""What a raster says of itself, and how far it is from what a model was trained on."""

import os
from typing import Any

from rhm.data.radiometry import Scaling, histogram_of
from rhm.data.raster import Raster, RasterInfo
from rhm.histogram import DTYPES, Histogram
from rhm.models.spec import ModelSpec

FAR = 0.1
"""Mean distance, as a share of the range, from which an image is called unlike the training."""

_THUMBNAIL_PX = 1024
_SHARES = (0.0, 0.02, 0.5, 0.98, 1.0)


def inspect_raster(
    path: str | os.PathLike[str], spec: ModelSpec | None = None, *, black_is_nodata: bool = False
) -> dict[str, Any]:
    """Return the facts of a raster, JSON-ready.

    Args:
        path: of the raster.
        spec: of a model to compare with.
        black_is_nodata: whether pixels that are zero in all bands have no data.

    Raises:
        RasterError: the raster cannot be read.
        ModelFileError: it has other bands than the model takes, or the model does not record
            its training imagery.
    """
    with Raster(path, black_is_nodata=black_is_nodata) as raster:
        info = raster.info
        facts: dict[str, Any] = {
            "file": info.path,
            "size": f"{info.width} x {info.height}",
            "bands": len(info.bands),
            "dtype": info.dtype,
            "crs": info.crs.to_string() if info.crs else None,
            "gsd_m": info.gsd_m,
            "nodata": info.nodata,
            "masked": info.masked,
            "block": f"{info.block_shape[1]} x {info.block_shape[0]}",
            "overviews": list(info.overviews),
        }
        if raster.dtype not in DTYPES:
            return facts
        histogram = histogram_of(raster)
    facts["valid_share"] = _valid_share(path, info, black_is_nodata=black_is_nodata)
    facts["values (min 2% 50% 98% max)"] = [
        " ".join(str(value) for value in band) for band in histogram.quantile(_SHARES).tolist()
    ]
    if spec is not None and histogram.pixels:
        facts |= _compared(spec, histogram, info)
    return facts


def _valid_share(path: str | os.PathLike[str], info: RasterInfo, *, black_is_nodata: bool) -> float:
    # A thumbnail is enough, and comes from the overviews where there are some.
    scale = min(1.0, _THUMBNAIL_PX / max(info.height, info.width))
    with Raster(path, black_is_nodata=black_is_nodata, scale=scale) as thumbnail:
        _, valid = thumbnail.read()
    return float(valid.mean())


def _compared(spec: ModelSpec, histogram: Histogram, info: RasterInfo) -> dict[str, Any]:
    spec.check_bands(histogram.bands, info.path)
    scaling = spec.scalings.get(info.dtype) or Scaling.measure(histogram)
    nearest, distance = spec.source_distance(scaling.bytes_table().push(histogram).distribution())
    facts: dict[str, Any] = {
        "nearest_domain": nearest,
        "distance": [round(float(each), 4) for each in distance],
    }
    advice = []
    if distance.mean() > FAR:
        advice.append(
            "its values are unlike the training imagery: build a bank of such scenes with "
            "`rhm bank build` and train with --bank"
        )
    if info.gsd_m and spec.gsd_m and not 1 / 1.2 <= info.gsd_m / spec.gsd_m <= 1.2:
        advice.append(f"the model expects {spec.gsd_m:.2g} m per pixel: predict with --resample")
    facts["advice"] = advice
    return facts
