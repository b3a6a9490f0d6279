"""Blocks that a raster lists but does not store, which hold nodata by definition."""

from rasterio.io import DatasetReader

from rhm.data.rasters.windows import Window


def stores_nothing(dataset: DatasetReader, window: Window) -> bool:
    """Return whether a GeoTIFF stores no block under a window, so that it need not be read.

    Such blocks are nodata if the dataset has a nodata value; otherwise, they are zero.

    Args:
        dataset: open dataset.
        window: window on the grid of the file, inside it.
    """
    if dataset.driver != "GTiff":
        return False
    height, width = dataset.block_shapes[0]
    rows = range(window.row // height, -(-(window.row + window.height) // height))
    cols = range(window.col // width, -(-(window.col + window.width) // width))
    return all(
        dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1) is None
        for row in rows
        for col in cols
    )
