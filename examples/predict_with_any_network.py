"""Predict a scene with any PyTorch network.

`predict_raster` streams a GeoTIFF of any size through any function that returns logits, and traces
the footprints of the buildings that it finds. Here the network is a one-liner: bright pixels are
buildings.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas
import matplotlib.pyplot as plt
import numpy as np
import rasterio
import torch
from rasterio.plot import plotting_extent

from rhm.inference import predict_raster
from rhm.inference.polygons import PolygonConfig
from rhm.synthetic.world import write_sample_world


def bright(images: torch.Tensor) -> torch.Tensor:
    """Return logits (N, 1, H, W) for images (N, bands, H, W) scaled to 0 (black) to 1 (white)."""
    smooth = torch.nn.functional.avg_pool2d(images, 5, stride=1, padding=2)
    return 25.0 * (smooth.amin(1, keepdim=True) - 0.64)


output = Path(sys.argv[1])
with TemporaryDirectory() as folder:
    write_sample_world(folder, tile_size=256, tiles_per_domain=1, scene_size=96, seed=4)
    scene = next(Path(folder, "birch_aerial", "images").glob("*.tif"))
    outlines = PolygonConfig(threshold=0.5, min_area_m2=15.0, regularize_m=1.5)
    result = predict_raster(bright, scene, folder, tile=128, overlap=32, polygons=outlines)
    buildings = geopandas.read_file(result.buildings)
    with rasterio.open(scene) as raster, rasterio.open(result.probability) as predicted:
        image, probability = np.moveaxis(raster.read(), 0, -1), predicted.read(1)
        extent = plotting_extent(raster)

print(f"{result.count} footprints, {buildings.area_m2.sum():.0f} m2 in total")
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
left.imshow(probability, cmap="magma", extent=extent)
left.set_title("probability", fontsize=10)
right.imshow(image, extent=extent)
buildings.boundary.plot(ax=right, color="#00e5ff", linewidth=1.2)
right.set_title("footprints", fontsize=10)
for axis in (left, right):
    axis.set_axis_off()
figure.savefig(output, dpi=120)
