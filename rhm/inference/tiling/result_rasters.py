"""The rasters that a prediction writes: probabilities and a mask on the grid of the scene."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rasterio.io import DatasetWriter

from rhm.data.rasters.cog import writing_cog
from rhm.data.rasters.raster_info import RasterInfo
from rhm.inference.tiling.storage import MASK_NODATA, Storage


@contextmanager
def writing_results(
    probability: Path,
    mask: Path,
    scene: RasterInfo,
    storage: Storage,
    *,
    maps: Sequence[str],
    compress: str,
    probability_tags: Mapping[str, str],
    mask_tags: Mapping[str, str],
) -> Iterator[tuple[DatasetWriter, DatasetWriter]]:
    """Yield the probability raster and the mask, open for writing.

    Args:
        probability: path of the probability raster.
        mask: path of the mask.
        scene: size and georeferencing of both.
        storage: storage of the probabilities.
        maps: what each map of the probability raster is.
        compress: compression of both.
        probability_tags: tags of the probability raster.
        mask_tags: tags of the mask.

    Raises:
        OutputError: a raster cannot be written.
    """
    common: dict[str, Any] = {
        "height": scene.height,
        "width": scene.width,
        "crs": scene.crs,
        "transform": scene.transform,
        "gcps": scene.gcps,
        "rpcs": scene.rpcs,
        "compress": compress,
    }
    with (
        writing_cog(
            probability,
            dtype=storage.dtype,
            nodata=storage.nodata,
            scale=storage.scale,
            description=maps[0],
            further=maps[1:],
            **common,
        ) as probabilities,
        writing_cog(
            mask,
            dtype="uint8",
            nodata=MASK_NODATA,
            description="building",
            overview_resampling="mode",
            **common,
        ) as masks,
    ):
        probabilities.update_tags(**probability_tags)
        masks.update_tags(**mask_tags)
        yield probabilities, masks
